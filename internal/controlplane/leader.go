package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// asLeader runs work while this server holds the lease kube-system/name, as
// the user of the certificate called cert. With an embedded etcd there is no
// other server, and work runs at once. Losing the lease is an error: work
// cannot start a second time in one process. When ctx ends, the lease is given
// up as soon as work has returned, so that another server need not wait until it expires.
//
// Kubernetes' own election is not enough: it ends the process, which must still
// stop its API server cleanly.
func (s *settings) asLeader(ctx context.Context, cert, name string, work func(context.Context) error) error {
	if s.embeddedStore {
		return work(ctx)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this server in the lease %s: %w", name, err)
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, metav1.NamespaceSystem, name,
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, s.ids().restConfig(cert), renewDeadline)
	if err != nil {
		return fmt.Errorf("make the lease %s: %w", name, err)
	}
	return electTo(ctx, lock, name, work)
}

const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// electTo waits for the lease, and works until ctx ends, work does, or the
// lease is lost. The election outlives ctx until work has returned.
func electTo(ctx context.Context, lease resourcelock.Interface, name string, work func(context.Context) error) error {
	electing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	lock := &workLock{Interface: lease}
	var failure error
	worked := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: name,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer close(worked)
				defer cancel()
				failure = lock.during(ctx, leading, work)
				if leading.Err() != nil && ctx.Err() == nil {
					failure = fmt.Errorf("the lease %s was lost to another server, or could not be renewed in time: restart this server", name)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("make the elector of %s: %w", name, err)
	}
	defer context.AfterFunc(ctx, func() {
		if !lock.working.Load() {
			cancel()
		}
	})()
	elector.Run(electing) // returns when ctx and work have ended, or the lease is lost
	if lock.won {
		<-worked
	}
	return failure
}

// workLock keeps the elector from giving up a lease while the work that it is for
// still runs. The elector does that when it could not renew the lease in time.
type workLock struct {
	resourcelock.Interface
	working atomic.Bool
	// won remembers that the election was won. The elector tells only a goroutine
	// of that, which may not have run yet when the election is over.
	won bool
}

func (l *workLock) RecordEvent(what string) {
	l.won = l.won || what == "became leader"
	l.Interface.RecordEvent(what)
}

var errWorking = errors.New("the lease is not given up before its work has ended")

// during runs work until it ends, the lease is lost or ctx ends.
func (l *workLock) during(ctx, leading context.Context, work func(context.Context) error) error {
	l.working.Store(true)
	defer l.working.Store(false)
	if leading.Err() != nil || ctx.Err() != nil {
		return nil // the lease was lost as soon as it was won, or ctx ended before
	}
	leading, stop := context.WithCancel(leading)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return work(leading)
}

func (l *workLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" && l.working.Load() {
		return errWorking
	}
	return l.Interface.Update(ctx, record)
}
