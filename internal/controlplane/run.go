package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"everynode/internal/balancer"
	"everynode/internal/controlplane/admission"
	"everynode/internal/datadir"
	"everynode/internal/memory"
)

const (
	stopTime = 30 * time.Second
	// brokenStopTime bounds stopping when the store has broken: the parts may wait
	// for answers that will not come.
	brokenStopTime = 3 * time.Second
	renewEvery     = 12 * time.Hour
	renewAgain     = 10 * time.Minute // after a renewal that failed
)

// Run starts a control plane, calls ready (which may be nil) once nodes and
// people can use it, and blocks. When ctx ends it stops everything in order and
// returns nil; when a part fails it stops the others and returns that failure.
// Errors say what to do next.
//
// Warnings and errors of the parts go to standard error. Run works once in a
// process.
func Run(ctx context.Context, cfg Config, ready func()) error {
	if err := quietLogs(); err != nil {
		return err
	}
	s, err := cfg.resolve()
	if err != nil {
		return err
	}
	held, err := preflight(s)
	if err != nil {
		return err
	}
	defer memory.Adapt(ctx, os.DirFS("/"), os.Getenv("GOGC"))()
	err = serve(ctx, s, held, ready)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it was asked to stop while it started
	}
	return errors.Join(err, held.release())
}

// server is a control plane: its parts, and how it learns of their failures.
type server struct {
	*settings
	store  *store // nil with EtcdServers
	api    *apiServer
	keys   *keyFollower
	broken <-chan error // the store's; nil blocks forever
	failed chan error
}

// serve starts the store, the API server and the controllers, waits, and
// stops them in the opposite order.
func serve(ctx context.Context, s *settings, held *claim, ready func()) (err error) {
	srv := &server{settings: s, failed: make(chan error, 1)}
	apiStage, controllers := newStage(ctx, srv.failed), newStage(ctx, srv.failed)
	defer func() { err = errors.Join(err, srv.stop(err, controllers, apiStage)) }()

	if err := srv.prepare(ctx, apiStage.ctx, held); err != nil {
		return err
	}
	held.listener = nil // from here on the API server owns it, and would panic if somebody else closed it
	if err := srv.startAPI(ctx, apiStage); err != nil {
		return err
	}
	if err := srv.startControllers(ctx, controllers); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	return srv.wait(ctx)
}

// prepare starts the store and configures the API server concurrently. Parts
// of the API server that are started for that end with apiCtx.
func (s *server) prepare(ctx, apiCtx context.Context, held *claim) error {
	begin := time.Now()
	urls, started, err := s.startStore(ctx, held)
	if err != nil {
		return err
	}
	err = s.makeIdentities(ctx, begin)
	s.progress("certificates", begin)
	s.keys = s.newKeyFollower(urls)
	if err == nil && s.keyringFirst {
		if err = started(); err == nil {
			err = s.keys.begin(ctx)
		}
	}
	if err == nil {
		s.api, err = newAPIServer(apiCtx, s.settings, urls, held.listener)
	}
	if notStarted := started(); !errors.Is(err, notStarted) {
		err = errors.Join(notStarted, err)
	}
	if s.embeddedStore && err == nil {
		s.progress("etcd", begin)
	}
	return err
}

// startStore starts the embedded store, if the server should have one. started waits until it
// answers, and may be called again.
func (s *server) startStore(ctx context.Context, held *claim) (urls []string, started func() error, err error) {
	if !s.embeddedStore {
		return s.EtcdServers, func() error { return nil }, nil
	}
	if s.store, err = openStore(s.path("etcd")); err != nil {
		return nil, nil, err
	}
	s.broken = s.store.broken
	result := make(chan error, 1)
	go func() {
		err := s.store.start(ctx)
		if err == nil {
			err = held.dir.SetStore(datadir.StoreMade)
		}
		result <- err
	}()
	return []string{s.store.url}, sync.OnceValue(func() error { return <-result }), nil
}

// makeIdentities makes the certificates and kubeconfigs of this server.
func (s *settings) makeIdentities(ctx context.Context, now time.Time) error {
	if s.embeddedStore {
		return s.ids().ensure(now)
	}
	if err := agreeWithCluster(ctx, s, now); err != nil || !s.encryptSecrets {
		return err
	}
	return s.data().noteFormat(encryptedFormat)
}

// startAPI starts the API server and waits until it is ready.
func (s *server) startAPI(ctx context.Context, apiStage *stage) error {
	begin := time.Now()
	if s.store != nil {
		apiStage.start("the watch of etcd's space", s.store.watchSpace)
	}
	apiStage.start("the API server", s.api.run)
	s.keys.authorities.publish = func(ctx context.Context) error { return publishAuthorities(ctx, s.data(), s.api.loopback) }
	apiStage.start("the keys of Secrets", s.keys.run)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- s.api.waitReady(ctx) }()
	select {
	case err := <-answered:
		apiStage.start("the watch of revoked nodes", func(ctx context.Context) error { return s.api.gate.Run(ctx, s.api.loopback) })
		s.progress("API server", begin)
		return err
	case err := <-s.failed:
		cancel()
		<-answered
		return err
	case err := <-s.broken:
		cancel()
		<-answered
		return storeError{err}
	}
}

// startControllers gives all parts their rights, and starts all that acts on
// the API. It returns when nodes can join.
func (s *server) startControllers(ctx context.Context, controllers *stage) error {
	begin := time.Now()
	controllers.start("the standing roles", func(ctx context.Context) error { return reconcilePolicy(ctx, s.api.loopback) })
	controllers.start("the controller manager", func(ctx context.Context) error { return runControllerManager(ctx, s.settings, s.api.loopback) })
	controllers.start("the scheduler", func(ctx context.Context) error { return runScheduler(ctx, s.settings) })
	ours := ownAddons{s.Addons, AddonCluster{DataDir: s.DataDir, Services: s.serviceRange}, s.api.loopback}
	var objects errgroup.Group
	objects.Go(func() error { return bootstrap{s.settings, s.api.loopback}.apply(ctx) })
	objects.Go(func() error { ours.make(ctx, isDNS); return nil })
	if err := objects.Wait(); err != nil {
		return err
	}
	controllers.start("the node controller", func(ctx context.Context) error {
		return s.asLeader(ctx, nodeControllerCert, "everynode-node-controller", func(ctx context.Context) error {
			return admission.Run(ctx, s.ids().restConfig(nodeControllerCert), s.serviceRange)
		})
	})
	if s.LoadBalancers != "" {
		controllers.start("the addresses of load balancers", s.balanceLoads)
	}
	if s.DaemonSets != nil {
		controllers.start("the DaemonSet engine", func(ctx context.Context) error {
			return s.DaemonSets(ctx, s.ids().restConfig(engineCert))
		})
	}
	controllers.start("the add-ons", ours.run)
	controllers.start("the renewal of certificates", s.renewCertificates)
	if s.snapshots != nil {
		controllers.start("the schedule of snapshots", s.snapshots.run)
		if s.snapshots.uploads != nil {
			controllers.start("the upload of snapshots", s.snapshots.uploads.run)
		}
	}
	controllers.start("the check of the advertised address", func(ctx context.Context) error { return checkAdvertised(ctx, s.settings) })
	s.progress("controllers", begin)
	return nil
}

// balanceLoads gives services of type LoadBalancer addresses on this machine.
func (s *server) balanceLoads(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.ids().restConfig(loadBalancerCert))
	if err != nil {
		return fmt.Errorf("make a client for load balancers: %w", err)
	}
	return balancer.Run(ctx, client, balancer.Config{Range: s.balancers, Publications: s.publications,
		Routes: balancer.HostRoutes(s.balancers), Log: slog.New(logr.ToSlogHandler(klog.Background()))})
}

// renewCertificates renews certificates that expire soon, while the server runs.
// Everything that uses the files reads them again. If a renewal fails, the server
// goes on: the existing certificates are valid for months, and it retries soon.
func (s *server) renewCertificates(ctx context.Context) error {
	s.ids().warnOfEnd(time.Now())
	timer := time.NewTimer(renewEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			timer.Reset(s.ids().renew(now))
		}
	}
}

// wait blocks until the caller asks to stop (nil) or a part fails.
func (s *server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	case err := <-s.broken:
		return storeError{err}
	}
}

// stop stops controllers, then the API server, then the store. A broken store
// is left as it is: stopping it would wait for writes that cannot be done.
func (s *server) stop(cause error, controllers, apiStage *stage) error {
	if errors.As(cause, &storeError{}) {
		// That some parts do not stop in time is expected, and must not hide the cause.
		_ = controllers.stop(brokenStopTime)
		_ = apiStage.stop(brokenStopTime)
		return nil
	}
	err := controllers.stop(stopTime)
	if err != nil {
		err = fmt.Errorf("stop the controllers: %w", err)
	}
	if apiErr := apiStage.stop(stopTime); apiErr != nil {
		err = errors.Join(err, fmt.Errorf("stop the API server: %w: perhaps etcd does not answer; acknowledged writes are safe there", apiErr))
	}
	if s.keys != nil {
		s.keys.close(context.WithoutCancel(apiStage.ctx))
	}
	if s.store != nil {
		err = errors.Join(err, s.store.stop(stopTime))
	}
	return err
}
