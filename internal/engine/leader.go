package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcoordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"

	"everynode/internal/delivery"
)

// lead runs work whenever this process holds the lease, until ctx ends. Work has returned before
// the lease is released, and its context ends when the lease is lost. An error of work ends lead.
func lead(ctx context.Context, cfg Config, work func(context.Context) error) error {
	c := rest.CopyConfig(cfg.Client)
	c.QPS = -1
	watcher, err := kubernetes.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("engine: configuring the lease client: %w", err)
	}
	c.Timeout = delivery.RenewDeadline / 2
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("engine: configuring the lease client: %w", err)
	}
	for ctx.Err() == nil {
		past := newTenure()
		if err := leadOnce(ctx, cfg, client, watcher, past, work); err != nil {
			return err
		}
		if ctx.Err() == nil {
			cfg.Log.Warn("lost the lease; writing nothing until it is won again", "lease", cfg.LeaseNamespace+"/"+cfg.LeaseName)
			// The lease may still name this process, which would win it again at once.
			sleep(ctx, time.Until(past.openUntil(true)))
		}
	}
	return nil
}

// leadOnce waits for the lease and works until it is lost or ctx ends. The election outlives ctx
// until work has stopped: only then may the lease be released.
func leadOnce(ctx context.Context, cfg Config, client, watcher kubernetes.Interface, term *tenure, work func(context.Context) error) error {
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var failure error
	worked := make(chan struct{})
	lock := &tenureLock{tenure: term, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: cfg.LeaseNamespace, Name: cfg.LeaseName},
		Client:     typedcoordinationv1.New(once{client.CoordinationV1().RESTClient()}),
		LockConfig: resourcelock.ResourceLockConfig{Identity: cfg.Identity},
	}}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: cfg.LeaseName, Lock: lock,
		LeaseDuration: delivery.LeaseTerm, RenewDeadline: delivery.RenewDeadline, RetryPeriod: delivery.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				defer close(worked)
				defer stop()
				working, cancel := context.WithCancel(lock.tenure.during(held))
				defer cancel()
				lock.tenure.begin(cancel)
				defer context.AfterFunc(ctx, cancel)()
				failure = work(working)
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(who string) {
				cfg.Log.Info("leader elected", "holder", who, "self", who == cfg.Identity)
			},
		},
	})
	if err != nil {
		return fmt.Errorf("engine: configuring the leader election: %w", err)
	}
	cfg.Monitor.elects(elector)
	// Before the lease is won, nothing else would notice the end of ctx.
	defer context.AfterFunc(ctx, func() {
		if !elector.IsLeader() {
			stop()
		}
	})()
	var watching sync.WaitGroup
	watching.Go(func() {
		watchRelease(electing, cfg, watcher, func() {
			if !elector.IsLeader() && !lock.asks.Load() {
				stop() // and another elector tries at once
			}
		})
	})
	elector.Run(electing)
	stop()
	watching.Wait()
	if lock.won {
		<-worked
	}
	return failure
}

// watchRelease calls released when it sees the holder give up the lease, until ctx ends.
// Otherwise the elector notices with its next try, seconds later; without the permission to
// watch, that is how it works.
func watchRelease(ctx context.Context, cfg Config, client kubernetes.Interface, released func()) {
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, cfg.LeaseName).String()}
	for ctx.Err() == nil {
		w, err := client.CoordinationV1().Leases(cfg.LeaseNamespace).Watch(ctx, only)
		if err == nil {
			for event := range w.ResultChan() {
				l, ok := event.Object.(*coordinationv1.Lease)
				free := !ok || event.Type == watch.Deleted || ptr.Deref(l.Spec.HolderIdentity, "") == ""
				if free && event.Type != watch.Added { // a lease that is free from the start is already being tried
					released()
				}
			}
		}
		sleep(ctx, delivery.RetryPeriod)
	}
}
