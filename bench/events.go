package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

// The labels that choose the nodes of a phase.
const (
	labelFlip   = "bench.example/flip"
	labelJoined = "bench.example/joined"
	labelAll    = "bench.example/all"
	labelIdle   = "bench.example/nothing"
)

const joinFamily = "9"

// join creates a node that is Ready at once.
func (r *run) join(ctx context.Context, name string, i int, labels map[string]string) error {
	node := testbed.NewNode(name, r.size+i, labels)
	err := r.Client.CoreV1().RESTClient().Post().Resource("nodes").Body(node).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("make node %s: %w", name, err)
	}
	return nil
}

var joined = map[string]string{labelJoined: "true"}

// joinOneByOne measures the time from the creation of a node until its pod is
// bound.
func joinOneByOne(ctx context.Context, r *run, m report.Metrics) error {
	return r.oneByOne(ctx, r.joins, m, testbed.AgentName, func(i int) string { return testbed.NodeName(joinFamily, i) },
		func(node string, i int) error { return r.join(ctx, node, i, joined) })
}

// oneByOne causes one event after another on a node. It measures the time from
// the server's answer until the DaemonSet's pod is bound.
func (r *run) oneByOne(ctx context.Context, times int, m report.Metrics, set string, node func(int) string, happen func(string, int) error) error {
	var took []float64
	for i := range times {
		bound := r.fleet.expect(hasPod(set, node(i)))
		if err := happen(node(i), i); err != nil {
			return err
		}
		began := time.Now()
		at, err := bound.await(ctx, r.fleet, "node "+node(i)+" has its pod")
		if err != nil {
			return err
		}
		took = append(took, at.Sub(began).Seconds())
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
	m.Quantiles(took)
	return nil
}

// pause waits for the status writes that follow an event, so that each event is
// measured alone.
func (r *run) pause(ctx context.Context) error {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// joinAtOnce measures the time from the first of many new nodes until all their
// pods are bound.
func joinAtOnce(ctx context.Context, r *run, m report.Metrics) error {
	want := r.size + r.burst
	bound := r.fleet.expect(func(f *fleet) bool { return len(f.group(testbed.AgentName).onNode) == want })
	began := time.Now()
	err := testbed.Parallel(ctx, r.burst, func(ctx context.Context, i int) error {
		return r.join(ctx, testbed.NodeName(joinFamily, i), i, joined)
	})
	if err != nil {
		return err
	}
	m["posted"] = time.Since(began).Seconds()
	at, err := bound.await(ctx, r.fleet, "all new nodes have their pod")
	m["time"] = at.Sub(began).Seconds()
	return err
}

// removeJoined removes the new nodes and their pods, as a cloud controller and
// the pod garbage collector would.
func removeJoined(ctx context.Context, r *run) error {
	err := r.Client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelJoined})
	if err != nil {
		return fmt.Errorf("remove the new nodes: %w", err)
	}
	suffix := strings.TrimPrefix(testbed.NodeName(joinFamily, 0), "ip-10-0-0")
	pods := r.fleet.podsOn(func(node string) bool { return strings.HasSuffix(node, suffix) })
	err = testbed.Parallel(ctx, len(pods), func(ctx context.Context, i int) error {
		err := r.Client.CoreV1().Pods(testbed.Namespace).Delete(ctx, pods[i], metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if apierrors.IsNotFound(err) {
			return nil // the controller was faster
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove the pods of the new nodes: %w", err)
	}
	if _, err := r.fleet.await(ctx, "the pods of the removed nodes are gone", running(testbed.AgentName, r.size)); err != nil {
		return err
	}
	_, err = r.fleet.await(ctx, "the status says so", covered(testbed.AgentName, r.size))
	return err
}

const flipName = "flip"

// flipped is how many nodes get the label.
func (r *run) flipped() int { return min(r.joins, r.size) }

func prepareFlips(ctx context.Context, r *run) error {
	if err := r.createSet(ctx, testbed.DaemonSet(flipName, labelFlip, tenPercent)); err != nil {
		return err
	}
	_, err := r.fleet.await(ctx, "the DaemonSet for labelled nodes is known", covered(flipName, 0))
	return err
}

// flipLabels measures the time from a node's label until the pod that wants it
// is bound.
func flipLabels(ctx context.Context, r *run, m report.Metrics) error {
	return r.oneByOne(ctx, r.flipped(), m, flipName, func(i int) string { return testbed.NodeName("0", i) },
		func(node string, _ int) error { return r.setLabel(ctx, node, labelFlip, "true") })
}

func undoFlips(ctx context.Context, r *run) error {
	err := testbed.Parallel(ctx, r.flipped(), func(ctx context.Context, i int) error {
		return r.setLabel(ctx, testbed.NodeName("0", i), labelFlip, "null")
	})
	if err != nil {
		return err
	}
	_, err = r.fleet.await(ctx, "the pods of nodes without label are gone", running(flipName, 0))
	return err
}

// beatHearts sends a heartbeat for every node. The controllers have nothing to
// do.
func beatHearts(ctx context.Context, r *run, m report.Metrics) error {
	began := time.Now()
	at := began.UTC().Add(time.Minute).Format(time.RFC3339)
	var patch strings.Builder
	for i, c := range testbed.NodeConditions(began) {
		fmt.Fprintf(&patch, `%s{"type":%q,"lastHeartbeatTime":%q}`, []string{"", ","}[min(i, 1)], c.Type, at)
	}
	body := []byte(`{"status":{"conditions":[` + patch.String() + `]}}`)
	err := testbed.Parallel(ctx, r.size, func(ctx context.Context, i int) error {
		return r.Client.CoreV1().RESTClient().Patch(types.StrategicMergePatchType).Resource("nodes").Name(testbed.NodeName("0", i)).
			SubResource("status").Body(body).Do(ctx).Error()
	})
	m["posted"] = time.Since(began).Seconds()
	return err
}

// idleKind marks the pods of the idle DaemonSets.
const idleKind = "idle"

func idleNamed(i int) string { return fmt.Sprintf("idle-%03d", i) }

// prepareIdle creates many DaemonSets that match no node.
func prepareIdle(ctx context.Context, r *run) error {
	if r.idleMade {
		return nil
	}
	r.idleMade = true
	err := testbed.Parallel(ctx, r.idle, func(ctx context.Context, i int) error {
		ds := testbed.DaemonSet(idleNamed(i), labelAll, tenPercent)
		ds.Spec.Template.Labels[testbed.LabelKind] = idleKind
		return r.createSet(ctx, ds)
	})
	if err != nil {
		return err
	}
	_, err = r.fleet.await(ctx, "the idle DaemonSets are known", func(f *fleet) bool {
		for i := range r.idle {
			if !covered(idleNamed(i), 0)(f) {
				return false
			}
		}
		return true
	})
	return err
}

// labelEveryNode gives every node a label that no DaemonSet selects.
func labelEveryNode(ctx context.Context, r *run, m report.Metrics) error {
	began := time.Now()
	err := testbed.Parallel(ctx, r.size, func(ctx context.Context, i int) error {
		return r.setLabel(ctx, testbed.NodeName("0", i), "node.example.com/patched-on", "2026-11-24")
	})
	m["posted"] = time.Since(began).Seconds()
	return err
}

// manyJoins is how many nodes join that get a pod of every DaemonSet.
const manyJoins = 5

// joinMany measures the time from the creation of a node until the last of its
// many pods is created, and until it is bound.
func joinMany(ctx context.Context, r *run, m report.Metrics) error {
	posted := 0 // protected by the fleet's mutex
	watching, stop := context.WithCancel(ctx)
	defer stop()
	r.fleet.follow(watching, r.Client.CoreV1().Pods(testbed.Namespace), metav1.ListOptions{LabelSelector: testbed.LabelKind + "=" + idleKind},
		func(event watch.EventType, _ runtime.Object) {
			if event == watch.Added {
				r.fleet.mu.Lock()
				defer r.fleet.mu.Unlock()
				posted++
				r.fleet.wake()
			}
		})
	var took, bound []float64
	for i := range manyJoins {
		name := testbed.NodeName(joinFamily, r.joins+i)
		want := (i + 1) * r.idle
		all := r.fleet.expect(func(*fleet) bool { return posted == want })
		allBound := r.fleet.expect(func(f *fleet) bool { return f.idleOn(name, r.idle) })
		if err := r.join(ctx, name, r.joins+i, map[string]string{labelAll: "true"}); err != nil {
			return err
		}
		began := time.Now()
		at, err := all.await(ctx, r.fleet, "all pods of the new node are created")
		if err != nil {
			return err
		}
		took = append(took, at.Sub(began).Seconds())
		if at, err = allBound.await(ctx, r.fleet, "all pods of the new node are bound"); err != nil {
			return err
		}
		bound = append(bound, at.Sub(began).Seconds())
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	m.Quantiles(took)
	m["bound"] = report.Median(bound)
	return nil
}

func (f *fleet) idleOn(node string, n int) bool {
	for i := range n {
		if !hasPod(idleNamed(i), node)(f) {
			return false
		}
	}
	return true
}
