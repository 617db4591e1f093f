package controlplane

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// testLock is the lease "work" for one of several servers, which can lose its
// connection to the API.
type testLock struct {
	resourcelock.Interface
	cut atomic.Bool
}

func newTestLock(client kubernetes.Interface, who string) *testLock {
	return &testLock{Interface: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "work"},
		Client:    client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: who},
	}}
}

func (l *testLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if l.cut.Load() && record.HolderIdentity != "" {
		return errors.New("the API does not answer")
	}
	return l.Interface.Update(ctx, record)
}

// workers counts how many servers work at the same time.
type workers struct{ now, most, begun atomic.Int32 }

// work goes on for lag after it was asked to stop.
func (w *workers) work(lag time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		w.begun.Add(1)
		w.most.Store(max(w.most.Load(), w.now.Add(1)))
		defer w.now.Add(-1)
		<-ctx.Done()
		time.Sleep(lag) // in the bubble
		return nil
	}
}

// A server that is asked to stop gives up the lease when its work has ended, and
// the next server need not wait until the lease expires.
func TestLeaderGivesUpTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, w := fake.NewClientset(), &workers{}
		ctx, stop := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- electTo(ctx, newTestLock(client, "a"), "work", w.work(3*time.Second)) }()
		time.Sleep(time.Second)
		next, stopNext := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- electTo(next, newTestLock(client, "b"), "work", w.work(0)) }()
		time.Sleep(time.Minute)
		if w.begun.Load() != 1 {
			t.Fatalf("%d servers began to work", w.begun.Load())
		}
		stop()
		if err := <-first; err != nil {
			t.Error("a server that is told to stop: ", err)
		}
		time.Sleep(3 * retryPeriod)
		if w.begun.Load() != 2 {
			t.Error("no other server works a moment after the first has stopped")
		}
		stopNext()
		if err := <-second; err != nil {
			t.Error(err)
		}
		if w.most.Load() > 1 {
			t.Errorf("%d servers worked at the same time", w.most.Load())
		}
	})
}

// A server that cannot renew the lease ends with an error, and does not give the
// lease up as long as its work has not ended, although it could.
func TestLeaderLosesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, w := fake.NewClientset(), &workers{}
		lock := newTestLock(client, "a")
		first := make(chan error, 1)
		go func() { first <- electTo(t.Context(), lock, "work", w.work(4*time.Second)) }()
		time.Sleep(time.Second)
		ctx, stop := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- electTo(ctx, newTestLock(client, "b"), "work", w.work(0)) }()
		time.Sleep(time.Second)
		lock.cut.Store(true)
		if err := <-first; err == nil || !strings.Contains(err.Error(), "the lease work was lost") || !strings.Contains(err.Error(), "restart this server") {
			t.Errorf("a server that cannot renew: %v", err)
		}
		time.Sleep(2 * leaseDuration)
		stop()
		if err := <-second; err != nil {
			t.Error(err)
		}
		if w.begun.Load() != 2 || w.most.Load() > 1 {
			t.Errorf("%d servers worked, %d at the same time", w.begun.Load(), w.most.Load())
		}
	})
}

func TestLeaderWorkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := errors.New("it broke")
		err := electTo(t.Context(), newTestLock(fake.NewClientset(), "a"), "work", func(context.Context) error { return want })
		if !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
	})
}

// A server that is asked to stop before it leads does not begin to work, no matter
// how the stop and the election coincide.
func TestLeaderStopsBeforeItLeads(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			stop()
			var w workers
			if err := electTo(ctx, newTestLock(fake.NewClientset(), "a"), "work", w.work(0)); err != nil || w.begun.Load() != 0 {
				t.Fatalf("%d began to work: %v", w.begun.Load(), err)
			}
		})
	}
}
