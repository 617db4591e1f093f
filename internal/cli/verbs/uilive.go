package verbs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/cli/console"
	"everynode/internal/fleetview"
	"everynode/internal/lookout"
)

// liveFleet is the fleet of a cluster, for a page. It makes a new lookout.Fleet each time somebody begins to look.
type liveFleet struct {
	client             kubernetes.Interface
	kinds              rolloutKinds
	namespace, cluster string
	as                 uiCommand // how users type commands

	mu    sync.Mutex
	fleet *lookout.Fleet // nil: nobody looks
}

func (cmd uiCommand) liveFleet(namespace string) (*liveFleet, error) {
	config, err := cmd.cluster.Config()
	if err != nil {
		return nil, err
	}
	config.WarningHandler = rest.NoWarnings{} // nobody would see them
	client, err := ForFleet(config)
	if err != nil {
		return nil, err
	}
	kinds, err := cmd.cluster.kinds()
	if err != nil {
		return nil, err
	}
	return &liveFleet{client: client, kinds: kinds, namespace: namespace, cluster: config.Host, as: cmd}, nil
}

// Follow calls show with each new state of the cluster until ctx ends.
func (l *liveFleet) Follow(ctx context.Context, show func(*fleetview.State), failing func(string)) error {
	f := lookout.NewFleet(ctx, l.client, lookout.Releases{Rollouts: l.kinds.rollouts, Policies: l.kinds.policies}, l.namespace)
	l.keep(f)
	defer l.keep(nil) // it may be some hundred MB
	return f.Watch(ctx, func(s *fleetview.State) {
		s.Cluster = l.cluster
		show(s)
	}, failing)
}

func (l *liveFleet) keep(f *lookout.Fleet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fleet = f
}

func (l *liveFleet) now() (*lookout.Fleet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fleet == nil {
		return nil, fmt.Errorf("nothing was read yet: %w", fleetview.ErrUnknown)
	}
	return l.fleet, nil
}

// Node returns details of a node.
func (l *liveFleet) Node(ctx context.Context, name string) (*fleetview.NodeDetail, error) {
	f, err := l.now()
	if err != nil {
		return nil, err
	}
	n, err := f.Node(ctx, name, time.Now())
	if err != nil {
		return nil, err
	}
	for i := range n.Rows {
		n.Rows[i].Commands = l.as.cluster.allTyped(l.as.Console, n.Rows[i].Commands)
		n.Rows[i].Change = l.as.Called(n.Rows[i].Change)
	}
	return n, nil
}

// Events returns the Events about a DaemonSet.
func (l *liveFleet) Events(ctx context.Context, namespace, name string) (*fleetview.Events, error) {
	f, err := l.now()
	if err != nil {
		return nil, err
	}
	return f.Events(ctx, namespace, name)
}

// Log returns the log of the container that fails on the node.
func (l *liveFleet) Log(ctx context.Context, namespace, name, node string) (*fleetview.Log, error) {
	f, err := l.now()
	if err != nil {
		return nil, err
	}
	return f.Log(ctx, namespace, name, node)
}

// steer does for a page what `rollout` does. The release must still be the one that the user confirmed.
func (cmd uiCommand) steer(ctx context.Context, namespace, name string, act fleetview.Action) (string, error) {
	decide, err := steering(act)
	if err != nil {
		return "", err
	}
	var said strings.Builder
	to := &console.Console{Out: &said, Err: &said, Program: cmd.Program}
	t := &rolloutTarget{console: to, cluster: cmd.cluster, namespace: namespace, name: name}
	if err := t.connect(); err != nil {
		return "", err
	}
	err = t.ask(ctx, decide, true)
	return strings.TrimSpace(said.String()), err
}

// steering returns how to decide what to write for a page's verb.
func steering(act fleetview.Action) (func(*release) (request, error), error) {
	verbs := map[string]func(*release, []string, bool) (request, error){
		"pause": (*release).pause, "resume": (*release).resume, "promote": (*release).promote, "abort": (*release).abort}
	decide := verbs[act.Verb]
	if decide == nil {
		return nil, fmt.Errorf("%q is not among what a page may ask for: pause, resume, promote, abort", act.Verb)
	}
	var words []string
	if act.Verb == "promote" {
		wave, _, _ := strings.Cut(act.Wave, "/") // groups of a wave cannot be promoted
		words = []string{wave}
	}
	return func(r *release) (request, error) {
		if act.Release != r.state.Release || act.Target != r.state.Target {
			return request{}, fmt.Errorf("nothing was done: this was about release %d of %s, and it is %s now. Look at it, and ask again", act.Release, act.Target, r.named())
		}
		return decide(r, words, false)
	}, nil
}
