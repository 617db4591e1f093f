package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

const (
	// settle is how long changes are gathered before there is a new table.
	settle = 100 * time.Millisecond
	// again is how often failed writes are retried.
	again = 30 * time.Second
	// drain is how long requests in progress may take when the proxy stops.
	drain = 20 * time.Second
)

// Config configures the proxy of a cluster.
type Config struct {
	Client kubernetes.Interface
	Events record.EventRecorder
	// Service, in Namespace, is the service through which clients reach the proxy. Its addresses become those of
	// the Ingresses.
	Namespace, Service string
	// HTTP and HTTPS are for requests. Health answers with an error until the proxy knows all Ingresses.
	HTTP, HTTPS, Health net.Listener
}

// Run answers requests until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	proxy, err := NewProxy()
	if err != nil {
		return err
	}
	ready := new(atomic.Bool)
	group, ctx := errgroup.WithContext(ctx)
	plain, secure := proxy.server(), proxy.server()
	health := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	for _, part := range []func() error{
		func() error { return plain.Serve(cfg.HTTP) },
		func() error { return secure.ServeTLS(cfg.HTTPS, "", "") },
		func() error { return health.Serve(cfg.Health) },
	} {
		group.Go(func() error {
			if err := part(); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("answer requests: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		ready.Store(false)
		return shutdown(context.WithoutCancel(ctx), plain, secure, health)
	})
	group.Go(func() error { return newController(cfg, proxy, ready).run(ctx) })
	return group.Wait()
}

// shutdown lets requests in progress end, and cuts those that take too long.
func shutdown(ctx context.Context, servers ...*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	var errs []error
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// newController makes the informers of a proxy; run starts them.
func newController(cfg Config, proxy *Proxy, ready *atomic.Bool) *controller {
	all := informers.NewSharedInformerFactory(cfg.Client, 0)
	secrets := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "type=" + string(corev1.SecretTypeTLS)
	}))
	return &controller{
		Config: cfg, proxy: proxy, ready: ready, factories: []informers.SharedInformerFactory{all, secrets},
		ingresses: all.Networking().V1().Ingresses(), classes: all.Networking().V1().IngressClasses(),
		services: all.Core().V1().Services(), secrets: secrets.Core().V1().Secrets(),
		changed: make(chan struct{}, 1), told: map[string]string{},
	}
}

// run makes a new table whenever something has changed, until ctx ends.
func (c *controller) run(ctx context.Context) error {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.touch() }, UpdateFunc: func(any, any) { c.touch() }, DeleteFunc: func(any) { c.touch() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		c.ingresses.Informer(), c.classes.Informer(), c.services.Informer(), c.secrets.Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch what Ingresses are made of: %w", err)
		}
	}
	for _, f := range c.factories {
		f.Start(ctx.Done())
		defer f.Shutdown()
	}
	for _, f := range c.factories {
		f.WaitForCacheSync(ctx.Done())
	}
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for ctx.Err() == nil {
		c.update(ctx)
		select {
		case <-ticker.C:
		case <-c.changed:
			// More is on its way: Helm makes many objects at once.
			select {
			case <-time.After(settle):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
	return nil
}

// touch marks the table as out of date.
func (c *controller) touch() {
	select {
	case c.changed <- struct{}{}:
	default: // it is marked already
	}
}
