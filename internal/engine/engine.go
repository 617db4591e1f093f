package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"everynode/internal/view"
)

// Config says which cluster the engine works on, and how. Only Client must be
// set.
type Config struct {
	// Client reaches the API server. Its rate limit and content type are replaced: the engine paces requests by
	// how the server responds.
	Client *rest.Config
	// LeaderElect makes the engine work only while it holds the Lease
	// LeaseNamespace/LeaseName (default kube-system/everynode-controller).
	// Without it the caller makes sure that no second engine runs.
	LeaderElect               bool
	LeaseNamespace, LeaseName string
	// Identity names this process in the Lease; default host name and a UUID.
	Identity string
	// CreateQPS limits how many pods are created per second, over all DaemonSets. Zero: as fast as the server
	// accepts them.
	CreateQPS float64
	// Workers is how many decisions run at once; default 4.
	Workers int
	// BindBy is who binds the pods of DaemonSets without an annotation for that; empty: the engine, if the
	// template alone decides where they run.
	BindBy view.Binder
	// AllowNewerServer works on an API server that is more than one minor
	// version newer than the engine's types, and may lose template fields.
	AllowNewerServer bool
	// Alone makes the engine refuse to work beside another DaemonSet controller; Run then returns an
	// OtherController. It checks with a DaemonSet of its own, in LeaseNamespace, that fits no node: see
	// rival.go.
	Alone bool
	// Assist makes the engine work beside the DaemonSet controller of the cluster, which has the pods: it deletes
	// outdated pods of DaemonSets that follow a policy and whose strategy is OnDelete, and does nothing else. It
	// excludes Alone.
	Assist bool
	// AloneAfter is how long another controller has to show itself before the
	// first term of work; default 10 s.
	AloneAfter time.Duration
	// Monitor, if set, shows the state of the engine. It also makes the engine ask the API server which of its
	// permissions are missing.
	Monitor *Monitor
	// Log receives what an operator should know; default slog.Default().
	Log *slog.Logger

	// decided, in tests, sees each decision before anything else happens to its DaemonSet.
	decided func(*engine, *setEntry, *state)
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errors.New("engine: no API server is configured: set Config.Client")
	}
	if c.CreateQPS < 0 {
		return c, fmt.Errorf("engine: the create rate is %g a second: it must be 0 (no limit) or more", c.CreateQPS)
	}
	if c.Assist && c.Alone {
		return c, errors.New("engine: an engine that assists the DaemonSet controller of the cluster cannot refuse to work beside it: set only one of Config.Assist and Config.Alone")
	}
	if c.BindBy == "" {
		c.BindBy = view.ByEngine
	}
	if _, err := view.ParseBinder(string(c.BindBy)); err != nil {
		return c, fmt.Errorf("engine: who binds the pods: %w", err)
	}
	if c.LeaseNamespace == "" {
		c.LeaseNamespace = "kube-system"
	}
	if c.LeaseName == "" {
		c.LeaseName = "everynode-controller"
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.AloneAfter <= 0 {
		c.AloneAfter = 10 * time.Second
	}
	if c.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("engine: naming this process in the lease: %w", err)
		}
		c.Identity = host + "_" + string(uuid.NewUUID())
	}
	return c, nil
}

// Run keeps every DaemonSet of the cluster as its specification says until ctx ends, and then returns nil, after
// the last write has ended and the lease is released. An error means that the engine could not start, or must
// not continue beside another controller. While the API server cannot be reached, it keeps trying.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	monitored := cfg.Monitor != nil
	if monitored {
		cfg.Client = cfg.Monitor.metered(cfg.Client, cfg.Log)
	} else {
		cfg.Monitor = NewMonitor()
	}
	defer cfg.Monitor.stopped()
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(cfg.Log.Handler()))
	if err := checkCredentials(cfg.Client, time.Now()); err != nil {
		return err
	}
	client, err := newAPI(cfg.Client)
	if err != nil {
		return err
	}
	if err := checkServer(ctx, cfg, client.client); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	ix := newIndex()
	ix.binding.Default, ix.assists = cfg.BindBy, cfg.Assist
	synced := ix.watch(ctx, &watches, client)
	if !cfg.Assist { // else the other controller decides who binds pods
		ix.watchClasses(ctx, &watches, client)
	}
	maps.Copy(synced, ix.watchPolicies(ctx, &watches, client, cfg.Log))
	cfg.Monitor.follows(ix, synced)
	if monitored {
		watches.Go(func() { cfg.Monitor.checkPermissions(ctx, cfg, client.client) })
	}
	work := func(ctx context.Context) error { return newEngine(cfg, client, ix).run(ctx, synced) }
	if !cfg.LeaderElect {
		return work(ctx)
	}
	return lead(ctx, cfg, work)
}

// engine is one term of work: as long as this process leads, or runs. Watches and index exist before and after
// it, so that it can begin at once.
type engine struct {
	cfg    Config
	log    *slog.Logger
	api    api
	index  *index
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	apply  *applier
	pulse  *pulse
	events *recorder
	gone   *goneNodes
	// fail ends the term with an error.
	fail  context.CancelCauseFunc
	seats *seats

	mu     sync.Mutex
	states map[types.NamespacedName]*state
}

func newEngine(cfg Config, client api, ix *index) *engine {
	e := &engine{cfg: cfg, log: cfg.Log, api: client, index: ix, states: map[types.NamespacedName]*state{},
		pulse: newPulse(client), seats: newSeats(cfg.Workers)}
	e.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](100*time.Millisecond, time.Minute))
	note := func(w *write) {
		w.began = e.index.note(w)
		if w.reaches != (releaseID{}) {
			w.state.reach(w)
		}
	}
	e.apply = newApplier(cfg.CreateQPS, e.perform, note, func(w *write) {
		e.index.note(w)
		e.queue.Add(w.key.NamespacedName)
	})
	e.gone = newGoneNodes(e.api, ix)
	return e
}

// run works until ctx ends, and returns when everything that it started has ended. An error means that it must
// not continue.
func (e *engine) run(ctx context.Context, synced map[string]<-chan struct{}) error {
	ctx, e.fail = context.WithCancelCause(ctx)
	defer e.fail(nil)
	e.cfg.Monitor.begins(e)
	defer e.cfg.Monitor.ends()
	e.events = newRecorder(ctx, e.api.client)
	defer e.events.shutdown()
	defer e.gone.queue.ShutDown()
	defer e.queue.ShutDown()
	if !waitAll(ctx, synced) {
		return nil
	}
	if err := e.standAlone(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	defer e.withdrawProbe(ctx)
	if e.cfg.LeaderElect && !e.freshen(ctx) {
		return nil
	}
	e.work(ctx)
	var other *OtherController
	if errors.As(context.Cause(ctx), &other) {
		return other
	}
	return nil
}

// work decides and writes until ctx ends.
func (e *engine) work(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	defer e.index.end()
	e.index.begin(listener{dirty: e.queue.Add, left: e.gone.removed, renewed: e.renewed})
	e.log.Info("DaemonSet engine started", "daemonSets", e.index.countSets())
	e.apply.start(ctx)
	e.watchProbe()
	all.Go(func() { e.gone.run(ctx) })
	all.Go(func() { e.housekeeping(ctx) })
	all.Go(func() { e.pulse.run(ctx) })
	all.Go(func() { e.dispatch(ctx) })
	e.cfg.Monitor.works()
	<-ctx.Done()
	e.queue.ShutDown()
	e.gone.queue.ShutDown()
	e.apply.stop()
	e.log.Info("DaemonSet engine stopped")
}

// waitAll waits for every channel to be closed; false when ctx ended first.
func waitAll(ctx context.Context, chans map[string]<-chan struct{}) bool {
	for _, c := range chans {
		select {
		case <-c:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
