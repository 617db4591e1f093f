package localcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"everynode/internal/cli/console"
	"everynode/internal/fleet"
)

// muster counts the simulated nodes as they become Ready. It watches them and never lists
// them: to list thousands of nodes keeps the API server from what it must do to make them
// Ready.
type muster struct {
	begin time.Time // reports of Ready from before do not count

	mu     sync.Mutex
	takes  map[string]bool // whether the node takes pods, or is switched off, by name
	ready  int
	broken error         // why the last watch ended
	news   chan struct{} // has room for one message
	freed  chan struct{} // the same, for the goroutines that create nodes
}

func newMuster(begin time.Time) *muster {
	return &muster{begin: begin, takes: map[string]bool{}, news: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

// set records a node as it is now; nil means that it was deleted.
func (r *muster) set(name string, node *corev1.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.takes[name] {
		r.ready--
	}
	delete(r.takes, name)
	if node != nil {
		takes := fleet.Off(node) || takesPods(node, r.begin)
		if r.takes[name] = takes; takes {
			r.ready++
		}
	}
	for _, told := range []chan struct{}{r.news, r.freed} {
		select {
		case told <- struct{}{}:
		default:
		}
	}
}

const (
	// ahead is how many nodes may exist that are not Ready while others are created. The
	// node lifecycle controller gives up on a node that is not Ready a minute after it
	// was created, and then writes more than it takes to make the node Ready. So nodes
	// are not created long before their turn, but enough of them to keep everybody busy.
	ahead = 256
	// unheeded is how long room holds back a new node at most: the nodes that exist may
	// never become Ready.
	unheeded = time.Second
)

// room waits until it is the turn of a new node.
func (r *muster) room(ctx context.Context) error {
	late := time.NewTimer(unheeded)
	defer late.Stop()
	for {
		if ready, total := r.count(); total-ready < ahead {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return nil
		case <-r.freed:
		}
	}
}

func (r *muster) count() (ready, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready, len(r.takes)
}

func (r *muster) breaks(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

// watch follows the simulated nodes until ctx ends.
func (r *muster) watch(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trimmedNode))
	nodes := factory.Core().V1().Nodes().Informer()
	// Without this the informer would write its errors to the terminal.
	if err := nodes.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { r.breaks(err) }); err != nil {
		return fmt.Errorf("watch the simulated nodes: %w", err)
	}
	if _, err := nodes.AddEventHandler(fleet.OnlySimulated(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.see(o) },
		UpdateFunc: func(_, o any) { r.see(o) },
		DeleteFunc: func(o any) {
			if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				r.set(name, nil)
			}
		},
	})); err != nil {
		return fmt.Errorf("watch the simulated nodes: %w", err)
	}
	nodes.RunWithContext(ctx)
	return nil
}

func (r *muster) see(o any) {
	if node, ok := o.(*corev1.Node); ok {
		r.set(node.Name, node)
	}
}

// trimmedNode reduces a node to what is counted: the informer stores thousands of them.
func trimmedNode(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	small := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Annotations: node.Annotations},
		Spec: corev1.NodeSpec{Taints: node.Spec.Taints}}
	if fleet.Simulated(node) {
		small.Labels = map[string]string{fleet.LabelSimulated: "true"}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			small.Status.Conditions = append(small.Status.Conditions, c)
		}
	}
	return small, nil
}

const (
	// tellEvery is how often `up` prints the count.
	tellEvery = 2 * time.Second
	// patience is how long `up` waits for one more node to be Ready or to be created.
	patience = 2 * time.Minute
)

// lateError is the error when some nodes are not Ready, and no other has become Ready for
// a while. Everything that runs keeps running: the rest may follow.
type lateError struct {
	ready, want int
	broken      error // why the count may be wrong; nil: it is right
	log         string
}

func (e *lateError) Error() string {
	text := fmt.Sprintf("%s of %s simulated nodes are Ready, and no other has become so for %s", console.Thousands(e.ready), console.Thousands(e.want), patience)
	if e.broken != nil {
		text += fmt.Sprintf(" (the last watch ended: %v)", e.broken)
	}
	return text + "; the simulator's log is " + e.log + `
The cluster is kept as it is, and the rest may follow: "everynode status" counts them, "everynode up" waits for them, "everynode down" stops it.`
}

func (e *lateError) Unwrap() error { return e.broken }

// IsLate reports whether err means that a cluster runs but some of it has not come up
// yet.
func IsLate(err error) bool {
	var late *lateError
	return errors.As(err, &late)
}

// wait returns once there are at least want nodes and all of them are Ready. n is how
// many there are. It fails if alive does, or if nothing has progressed for too long.
func (r *muster) wait(ctx context.Context, want int, alive func() error, tell func(ready, want int)) (n int, err error) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	most, progress := -1, time.Now()
	for {
		ready, total := r.count()
		if ready == total && total >= want {
			return total, nil
		}
		// A node that was created is progress, too: the more nodes, the longer each
		// takes.
		if ready+total > most {
			most, progress = ready+total, time.Now()
		}
		if time.Since(progress) >= patience {
			r.mu.Lock()
			defer r.mu.Unlock()
			return total, &lateError{ready: ready, want: max(want, total), broken: r.broken}
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-r.news:
		case <-tick.C:
			if err := alive(); err != nil {
				return total, err
			}
			tell(ready, max(want, total))
		}
	}
}
