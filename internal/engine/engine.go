package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Config says which cluster the engine works on, and how. Only Client must be
// set.
type Config struct {
	// Client reaches the API server. Its rate limit and content type are
	// replaced: requests are paced by what the server takes.
	Client *rest.Config
	// LeaderElect makes the engine work only while it holds the Lease
	// LeaseNamespace/LeaseName (default kube-system/everynode-controller).
	// Without it the caller makes sure that no second engine runs.
	LeaderElect               bool
	LeaseNamespace, LeaseName string
	// Identity names this process in the Lease; default host name and a UUID.
	Identity string
	// CreateQPS bounds how many pods are created per second, over all
	// DaemonSets. Zero: as fast as the server takes them.
	CreateQPS float64
	// Workers is how many DaemonSets are decided at once; default 4.
	Workers int
	// AllowNewerServer works on an API server that is more than one minor
	// version newer than the engine's types, and may lose template fields.
	AllowNewerServer bool
	// Log receives what an operator should know; default slog.Default().
	Log *slog.Logger

	// decided, in tests, sees each decision before anything else happens to
	// its DaemonSet.
	decided func(*engine, *setEntry, *state)
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errors.New("engine: no API server is configured: set Config.Client")
	}
	if c.CreateQPS < 0 {
		return c, fmt.Errorf("engine: the create rate is %g a second: it must be 0 (no limit) or more", c.CreateQPS)
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
	if c.LeaderElect && c.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("engine: naming this process in the lease: %w", err)
		}
		c.Identity = host + "_" + string(uuid.NewUUID())
	}
	return c, nil
}

// Run keeps every DaemonSet of the cluster as its specification says until ctx
// ends, and then returns nil, after the last write has ended and the lease is
// released. An error means that the engine could not start. While the API
// server cannot be reached it tries again, for ever.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(cfg.Log.Handler()))
	client, err := newAPI(cfg.Client)
	if err != nil {
		return err
	}
	if err := checkServer(ctx, cfg, client.client); err != nil {
		return err
	}
	var watches sync.WaitGroup
	defer watches.Wait()
	ix := newIndex()
	synced := ix.watch(ctx, &watches, client)
	work := func(ctx context.Context) { newEngine(cfg, client, ix).run(ctx, synced) }
	if !cfg.LeaderElect {
		work(ctx)
		return nil
	}
	return lead(ctx, cfg, work)
}

// engine is one term of work: as long as this process leads, or runs. Watches
// and index are there before and after, so that it can begin at once.
type engine struct {
	cfg    Config
	log    *slog.Logger
	api    api
	index  *index
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	apply  *applier
	events *recorder
	gone   *goneNodes

	mu     sync.Mutex
	states map[types.NamespacedName]*state
}

func newEngine(cfg Config, client api, ix *index) *engine {
	e := &engine{cfg: cfg, log: cfg.Log, api: client, index: ix, states: map[types.NamespacedName]*state{}}
	e.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](100*time.Millisecond, time.Minute))
	note := func(w *write) { e.index.note(string(w.ds.UID), w.node()) }
	e.apply = newApplier(cfg.CreateQPS, e.perform, note, func(w *write) {
		note(w)
		e.queue.Add(w.key)
	})
	e.gone = newGoneNodes(e.api, ix)
	return e
}

// run works until ctx ends, and returns when everything that it started has
// ended.
func (e *engine) run(ctx context.Context, synced []<-chan struct{}) {
	e.events = newRecorder(ctx, e.api.client)
	defer e.events.shutdown()
	defer e.gone.queue.ShutDown()
	defer e.queue.ShutDown()
	if !waitAll(ctx, synced) || e.cfg.LeaderElect && !e.freshen(ctx) {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer e.index.end()
	e.index.begin(listener{dirty: e.queue.Add, left: e.gone.removed})
	e.log.Info("DaemonSet engine started", "daemonSets", e.index.countSets())
	e.apply.start(ctx)
	all.Go(func() { e.gone.run(ctx) })
	all.Go(func() { e.settleLingering(ctx) })
	for range e.cfg.Workers {
		all.Go(func() { e.worker(ctx) })
	}
	<-ctx.Done()
	e.queue.ShutDown()
	e.gone.queue.ShutDown()
	e.apply.stop()
	e.log.Info("DaemonSet engine stopped")
}

// waitAll waits for every channel to be closed; false when ctx ended first.
func waitAll(ctx context.Context, chans []<-chan struct{}) bool {
	for _, c := range chans {
		select {
		case <-c:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
