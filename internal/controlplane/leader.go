package controlplane

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// asLeader runs work while this server holds the lease kube-system/name, as
// the user of the certificate called cert. With an embedded etcd there is no
// other server, and work runs at once. Losing the lease is an error: work
// cannot start a second time in one process.
//
// Kubernetes' own election would do, were it not that it ends the process
// where this one must still stop its API server in order.
func (s *settings) asLeader(ctx context.Context, cert, name string, work func(context.Context) error) error {
	if s.embeddedStore {
		return work(ctx)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this server in the lease %s: %w", name, err)
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, metav1.NamespaceSystem, name,
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, s.restConfig(cert), 10*time.Second)
	if err != nil {
		return fmt.Errorf("make the lease %s: %w", name, err)
	}
	var (
		working sync.Mutex // held while work runs
		failure error
	)
	electing, cancel := context.WithCancel(ctx)
	defer cancel()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: name,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				working.Lock()
				defer working.Unlock()
				if leading.Err() != nil {
					return // elector.Run has returned
				}
				failure = work(leading)
				if leading.Err() != nil && ctx.Err() == nil {
					failure = fmt.Errorf("the lease %s was lost to another server, or could not be renewed in time: start this server again", name)
				}
				cancel()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("make the elector of %s: %w", name, err)
	}
	elector.Run(electing) // returns when ctx ends, work has ended or the lease is lost
	working.Lock()
	defer working.Unlock()
	return failure
}
