package engine

import (
	"log/slog"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// With a clock that is a minute off the cluster's, either way, a rollout ends with one
// pod on each node, within its budget of ready pods, with the same number of writes,
// and in a time that is wrong by at most the minute. The log reports the difference
// once.
func TestClockOffByAMinute(t *testing.T) {
	const nodes, needs = 6, 30 * time.Second // minReadySeconds
	for name, ahead := range map[string]time.Duration{"behind": time.Minute, "ahead": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.ahead = ahead
				m, log := NewMonitor(), &logText{}
				c.addNodes(nodes)
				c.addSet(func(ds *appsv1.DaemonSet) {
					ds.Spec.MinReadySeconds = int32(needs.Seconds())
					ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 2
				})
				c.start(elect("one"), alone, func(cfg *Config) {
					cfg.Monitor, cfg.Log = m, slog.New(slog.NewTextHandler(log, nil))
				})
				c.run(3 * time.Minute)
				c.covered(nodes, "agent:1")
				isServing(t, m)
				if got, want := metrics(t, m)["clock_skew_seconds{}"], -ahead.Seconds(); got < want-1 || got > want+1 { // the header is precise to a second
					t.Errorf("the clock is said to be %v s ahead, want %v", got, want)
				}
				if n := log.count("the clocks of this machine and of the API server differ"); n != 1 {
					t.Errorf("the log says %d times that the clocks differ", n)
				}

				c.watchBudget(nodes, 2)
				writes := c.countWrites() - c.wrote("update leases")
				c.editSet(image("agent:2"))
				begin := time.Now()
				for c.set().Status.UpdatedNumberScheduled != nodes || c.set().Status.NumberAvailable != nodes || c.set().Status.ObservedGeneration != 2 {
					c.run(time.Second)
					if time.Since(begin) > 10*time.Minute {
						t.Fatalf("the rollout does not end: %+v", c.set().Status)
					}
				}
				// Three rounds, in each of which two pods stop, start and stay ready.
				right := 3 * (c.stops + c.starts + needs)
				if took := time.Since(begin); took < right-3*time.Minute || took > right+3*time.Minute+15*time.Second {
					t.Errorf("the rollout took %s; by the right clock it is about %s", took, right)
				}
				c.covered(nodes, "agent:2")
				if n := c.countWrites() - c.wrote("update leases") - writes; n > 10*nodes {
					t.Errorf("%d writes for %d pods", n, nodes)
				}
			})
		})
	}
}

// A failed pod is replaced with the same back-off, whatever the clocks show.
func TestBackoffWithClockOff(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": time.Minute, "ahead": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.ahead = ahead
				c.addNodes(1)
				c.addSet()
				inner := c.after
				c.after = func(pod *corev1.Pod) {
					if pod.Status.Phase != corev1.PodPending {
						inner(pod)
						return
					}
					time.AfterFunc(time.Second, func() {
						c.editPod(pod.Name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
					})
				}
				c.start()
				c.run(5 * time.Minute)
				if n := len(c.creates); n < 3 || n > 20 {
					t.Errorf("%d pods in five minutes for a node where each fails", n)
				}
			})
		})
	}
}

// Another controller has its full time to answer, even by a clock that is ahead, and
// even if the question is from a process before us.
func TestAnotherHasItsTimeWhateverTheClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": time.Minute, "ahead": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.ahead = ahead
				c.addNodes(3)
				c.addSet()
				c.other(8 * time.Second)
				monitored := func(cfg *Config) { cfg.Monitor = NewMonitor() }
				c.start(elect("one"), alone, monitored)
				c.run(4 * time.Second)
				c.stop() // the probe exists, and is not answered yet
				err := c.catch()
				c.start(elect("one"), alone, monitored)
				<-c.ended
				isRefusal(t, *err)
				if n := c.wrote("create pods"); n != 0 {
					t.Errorf("%d creates beside another controller", n)
				}
			})
		})
	}
}
