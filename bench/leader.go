package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

// leaderChanges is how often the leader is stopped.
const leaderChanges = 3

// changeLeader measures a change of the leader. A second process stands by, the
// first is told to end, and then a pod is deleted. The time is from the signal
// until the new pod is bound.
func changeLeader(ctx context.Context, r *run, m report.Metrics) error {
	var took, ended []float64
	for i := range leaderChanges {
		leader := r.processes[0]
		standby, err := r.startStandby(ctx, []string{testbed.UserStandby, testbed.UserController}[i%2])
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.processes = append(r.processes, standby)
		r.mu.Unlock()
		if err := r.settle(ctx); err != nil {
			return err
		}
		began := time.Now()
		if err := leader.Signal(ctx); err != nil {
			return err
		}
		ended = append(ended, time.Since(began).Seconds())
		r.mu.Lock()
		r.processes = append([]*testbed.Child{standby}, r.processes[1:len(r.processes)-1]...)
		r.mu.Unlock()
		at, err := r.losePod(ctx, testbed.NodeName("0", i))
		if err != nil {
			return err
		}
		took = append(took, at.Sub(began).Seconds())
	}
	m.Quantiles(took)
	m["ended"] = report.Median(ended)
	return nil
}

// startStandby starts a second process, and returns when it has tried to get
// the lease.
func (r *run) startStandby(ctx context.Context, user string) (*testbed.Child, error) {
	before, err := r.leaseReads(ctx, user)
	if err != nil {
		return nil, err
	}
	c, err := r.startController(user)
	if err != nil {
		return nil, err
	}
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		now, err := r.leaseReads(ctx, user)
		return now > before, err
	})
	if err != nil {
		c.Stop()
		return nil, fmt.Errorf("the standby does not ask for the lease: %w: %s", err, c.Tail())
	}
	return c, nil
}

func (r *run) leaseReads(ctx context.Context, user string) (n int, err error) {
	now, err := r.read(ctx)
	for req, a := range now.requests {
		if req.User == user && strings.HasSuffix(req.What, " leases") {
			n += a.Done
		}
	}
	return n, err
}

// losePod deletes a pod at once, and returns when the node has a new one.
func (r *run) losePod(ctx context.Context, node string) (time.Time, error) {
	pods := r.fleet.podsOn(func(n string) bool { return n == node })
	has := hasPod(testbed.AgentName, node)
	gone := r.fleet.expect(func(f *fleet) bool { return !has(f) })
	for _, name := range pods {
		if !strings.HasPrefix(name, testbed.AgentName+"-") {
			continue
		}
		err := r.Client.CoreV1().Pods(testbed.Namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if err != nil {
			return time.Time{}, fmt.Errorf("remove a pod: %w", err)
		}
	}
	if _, err := gone.await(ctx, r.fleet, "the pod is gone"); err != nil {
		return time.Time{}, err
	}
	return r.fleet.await(ctx, "the new leader makes a pod", has)
}
