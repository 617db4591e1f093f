package node

import (
	"context"
	"sync"
)

// restarts ends what runs with credentials or authorities that are replaced, so that it
// starts again with the new ones.
type restarts struct {
	mu   sync.Mutex
	ends map[*context.CancelFunc]struct{}
}

// around returns run as a service that begins again whenever all has been called.
func (r *restarts) around(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			if again, err := r.once(ctx, run); !again {
				return err
			}
		}
	}
}

// once runs it once, and says whether it has ended because all was called.
func (r *restarts) once(ctx context.Context, run func(context.Context) error) (again bool, err error) {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	if r.ends == nil {
		r.ends = map[*context.CancelFunc]struct{}{}
	}
	r.ends[&cancel] = struct{}{}
	r.mu.Unlock()
	err = run(one)
	r.mu.Lock()
	delete(r.ends, &cancel)
	r.mu.Unlock()
	return one.Err() != nil && ctx.Err() == nil, err
}

// all ends everything that runs, which then begins again.
func (r *restarts) all() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for end := range r.ends {
		(*end)()
	}
}
