package localcluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"everynode/internal/fleet"
)

// simNode is a simulated node that was reported Ready at this time; zero: not Ready.
func simNode(name string, ready time.Time) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{fleet.LabelSimulated: "true"}}}
	if !ready.IsZero() {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(ready)}}
	}
	return n
}

func alive() error { return nil }

// Nodes may take as long as they like, as long as one more becomes Ready now and
// then, and the count is reported all the while.
func TestMusterWaitsWhileThereIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, each = 20, 90 * time.Second
		r, told := newMuster(time.Now()), 0
		go func() {
			for i := range nodes {
				<-time.After(each)
				r.set(fmt.Sprint("sim-", i), simNode("", time.Now()))
			}
		}()
		begin := time.Now()
		n, err := r.wait(t.Context(), nodes, alive, func(int, int) { told++ })
		if n != nodes || err != nil || time.Since(begin) != nodes*each {
			t.Errorf("%d, %v after %s", n, err, time.Since(begin))
		}
		if want := int(nodes*each/tellEvery) - 1; told < want {
			t.Errorf("told %d times, want at least %d", told, want)
		}
	})
}

// Without progress it gives up, says how many nodes are Ready, and that everything
// is kept.
func TestMusterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begin := newMuster(time.Now()), time.Now()
		for i := range 4999 {
			r.set(fmt.Sprint("sim-", i), simNode("", time.Now()))
		}
		r.set("sim-old", simNode("", time.Now().Add(-time.Hour))) // its report is older than begin
		r.breaks(errors.New("connection refused"))
		_, err := r.wait(t.Context(), 5000, alive, func(int, int) {})
		if time.Since(begin).Round(tellEvery) != patience || !IsLate(err) {
			t.Fatalf("%v after %s", err, time.Since(begin))
		}
		for _, want := range []string{"4,999 of 5,000 simulated nodes are Ready", "connection refused", "The cluster is kept as it is", `"everynode up" waits`} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want %q in it", err, want)
			}
		}
	})
}

func TestMusterEndsWithTheSimulator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := errors.New("the simulator ended")
		if _, err := newMuster(time.Now()).wait(t.Context(), 1, func() error { return ended }, func(int, int) {}); !errors.Is(err, ended) || IsLate(err) {
			t.Errorf("%v", err)
		}
	})
}

// The watch follows simulated nodes as they are created, become Ready and are
// deleted.
func TestMusterWatches(t *testing.T) {
	now := time.Now()
	tainted, off, other := simNode("tainted", now), simNode("off", time.Time{}), simNode("other", now)
	tainted.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady}}
	off.Labels, off.Annotations = map[string]string{"everynode.dev/simulated": "true"}, map[string]string{"everynode.dev/simulate-off": "true"} // the literal names: nodes of existing clusters have them
	other.Labels = nil
	client := fake.NewClientset(simNode("a", now), simNode("b", time.Time{}), tainted, off, other)
	ctx, stop := context.WithCancel(t.Context())
	r, done := newMuster(now), make(chan error, 1)
	go func() { done <- r.watch(ctx, client) }()
	until := func(ready, total int) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			if a, b := r.count(); a == ready && b == total {
				return
			}
			select {
			case <-r.news:
			case <-limit:
				a, b := r.count()
				t.Fatalf("%d of %d, want %d of %d", a, b, ready, total)
			}
		}
	}
	until(2, 4)
	if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, simNode("b", now), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(3, 4)
	if err := client.CoreV1().Nodes().Delete(ctx, "tainted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(3, 3)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Nodes are created a little ahead of those that become Ready, and also if none
// becomes Ready.
func TestMusterHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begin := newMuster(time.Now()), time.Now()
		waits := func() time.Duration {
			begin := time.Now()
			if err := r.room(t.Context()); err != nil {
				t.Error(err)
			}
			return time.Since(begin)
		}
		for i := range ahead {
			if d := waits(); d != 0 {
				t.Errorf("node %d waited %s", i, d)
			}
			r.set(fmt.Sprint("sim-", i), simNode("", time.Time{}))
		}
		if d := waits(); d != unheeded {
			t.Errorf("one too many waited %s, want %s", d, unheeded)
		}
		const soon = unheeded / 4
		go func() {
			time.Sleep(soon)
			r.set("sim-7", simNode("", begin))
		}()
		if d := waits(); d != soon {
			t.Errorf("it waited %s, and there was room after %s", d, soon)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.set("sim-7", simNode("", time.Time{}))
		if err := r.room(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits any more: %v", err)
		}
	})
}
