package node

import (
	"context"
	"sync"
)

// restarts ends services whose credentials or CAs are replaced, so that they start
// again with the new ones.
type restarts struct {
	mu   sync.Mutex
	ends map[*context.CancelFunc]struct{}
}

// around returns run as a service that starts again whenever all is called.
func (r *restarts) around(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			if again, err := r.once(ctx, run); !again {
				return err
			}
		}
	}
}

// once calls run once. again is true if run ended because all was called.
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

// all ends everything that runs, which then starts again.
func (r *restarts) all() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for end := range r.ends {
		(*end)()
	}
}
