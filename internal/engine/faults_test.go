package engine

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/delivery"
)

// If the answer to a create is lost, the pod is found, not created twice.
func TestLostCreateAnswerMakesNoSecondPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(10)
		c.addSet()
		var n atomic.Int32
		c.intercept(func(r request) (error, bool) {
			return nil, r.is("create", "pods") && n.Add(1)%2 == 0
		})
		c.start()
		c.run(30 * time.Second)
		c.covered(10, "agent:1")
		if got := len(c.creates); got != 10 {
			t.Errorf("%d pods were created: %v", got, c.creates)
		}
		if got := len(c.events("SuccessfulCreate")); got != 10 {
			t.Errorf("%d SuccessfulCreate events", got)
		}
	})
}

// Even if the engine dies with the answer, and the next one sees an old state.
func TestLostAnswersAndRestart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(10)
		c.addSet()
		c.intercept(func(r request) (error, bool) { return nil, r.is("create", "pods") })
		c.stall("pods", true)
		c.start()
		c.run(10 * time.Millisecond)
		c.stop()
		c.intercept(nil)
		c.start()
		c.stall("pods", false)
		c.run(30 * time.Second)
		c.covered(10, "agent:1")
		if got := len(c.creates); got != 10 {
			t.Errorf("%d pods were created: %v", got, c.creates)
		}
	})
}

// A create that the server never got is sent again under the same name.
func TestServerOutageIsRiddenOut(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(10)
		c.addSet()
		var down atomic.Bool
		c.intercept(func(r request) (error, bool) {
			if down.Load() {
				return errors.New("connection refused"), false
			}
			return nil, false
		})
		c.start()
		c.run(10 * time.Second)
		c.watchBudget(10, 1)
		c.editSet(image("agent:2"))
		for range 6 {
			c.run(3 * time.Second)
			down.Store(true)
			c.cutWatches(false)
			c.run(20 * time.Second)
			down.Store(false)
		}
		c.run(3 * time.Minute)
		c.covered(10, "agent:2")
		if n := len(c.creates); n != 20 {
			t.Errorf("%d creates, want 20", n)
		}
	})
}

// While the watch shows nothing, own writes are known: no second create, no second
// delete, and no more deletes than the budget allows.
func TestStalledWatchLeadsToNoDoubleWrites(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(10)
		c.start()
		c.run(time.Second)
		c.stall("pods", true)
		c.addSet()
		c.run(time.Minute)
		if n := c.wrote("create pods"); n != 10 {
			t.Errorf("%d creates for 10 nodes under a stalled watch", n)
		}
		c.stall("pods", false)
		c.run(10 * time.Second)
		c.covered(10, "agent:1")

		c.watchBudget(10, 1)
		c.stall("pods", true)
		c.editSet(image("agent:2"))
		c.run(2 * time.Second)
		if n := c.wrote("delete pods"); n != 1 {
			t.Errorf("%d deletes with a budget of one, under a stalled watch", n)
		}
		c.stall("pods", false)
		c.run(2 * time.Minute)
		c.covered(10, "agent:2")
		if d, n := c.wrote("delete pods"), c.wrote("create pods"); d != 10 || n != 20 {
			t.Errorf("%d deletes and %d creates in all", d, n)
		}
	})
}

// With a watch that always lags, and answers that get lost, the budget holds and every
// node ends up with one pod.
func TestBudgetHoldsUnderLagAndLoss(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(12)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 3 })
		c.start()
		c.run(10 * time.Second)
		c.watchBudget(12, 3)
		var n atomic.Int32
		c.intercept(func(r request) (error, bool) {
			return nil, (r.verb == "create" || r.verb == "delete") && r.resource == "pods" && n.Add(1)%3 == 0
		})
		c.editSet(image("agent:2"))
		for i := range 60 {
			c.stall("pods", i%2 == 0)
			c.run(1700 * time.Millisecond)
			if i == 10 {
				c.editSet(image("agent:3")) // a second update on top of the first
			}
			if i == 20 {
				c.stop()
				c.start()
			}
		}
		c.stall("pods", false)
		c.run(2 * time.Minute)
		c.covered(12, "agent:3")
	})
}

// A node whose pods are always refused waits alone: the rollout, the history, the
// status and new nodes go on (I12).
func TestFailingNodeHoldsUpNoOther(t *testing.T) {
	for name, refusal := range map[string]error{
		"admission": apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "agent", errors.New("no such pod on this node")),
		"quota":     apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "agent", errors.New("exceeded quota: few")),
		"webhook":   apierrors.NewInternalError(errors.New("failed calling webhook")),
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(10)
				c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 2 })
				c.intercept(func(r request) (error, bool) {
					if r.is("create", "pods") && decode(r.body).(*corev1.Pod).Spec.NodeName == "node-04" {
						return refusal, false
					}
					return nil, false
				})
				c.start()
				c.run(10 * time.Second)
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				c.addNode("node-11")
				c.run(5 * time.Second)
				for _, p := range c.pods() {
					if p.Spec.Containers[0].Image != "agent:2" || !isReady(p) {
						t.Errorf("%s on %s: %s, ready %v", p.Name, p.Spec.NodeName, p.Spec.Containers[0].Image, isReady(p))
					}
				}
				s := c.set().Status
				if len(c.pods()) != 10 || s.DesiredNumberScheduled != 11 || s.UpdatedNumberScheduled != 10 || s.NumberAvailable != 10 || s.CurrentNumberScheduled != 10 {
					t.Errorf("%d pods, status %+v", len(c.pods()), s)
				}
				if got := c.events("FailedCreate"); len(got) == 0 || !strings.Contains(got[0], "Warning FailedCreate: Error creating: node node-04: ") {
					t.Errorf("events %q", got)
				}
				if n := len(c.objects["controllerrevisions"]); n != 2 {
					t.Errorf("%d revisions", n)
				}
				writes := c.wrote("update daemonsets")
				c.run(10 * time.Minute)
				if n := c.wrote("update daemonsets") - writes; n != 0 {
					t.Errorf("%d status writes while nothing changes", n)
				}
				c.intercept(nil)
				c.run(2 * time.Minute)
				c.covered(11, "agent:2")
			})
		})
	}
}

// A namespace without quota is not flooded: it gets a few probes, not one for each
// node.
func TestQuotaIsProbedGently(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(200)
		c.addSet()
		var tries atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") {
				tries.Add(1)
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "agent", errors.New("exceeded quota: none")), false
			}
			return nil, false
		})
		c.start()
		c.run(time.Minute)
		if n := tries.Load(); n > 150 {
			t.Errorf("%d creates in a minute against a full quota", n)
		}
		c.intercept(nil)
		c.run(3 * time.Minute)
		c.covered(200, "agent:1")
	})
}

func TestThrottlingIsObeyed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(30)
		c.addSet()
		var refused atomic.Int32
		begin := time.Now()
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") && time.Since(begin) < 5*time.Second {
				refused.Add(1)
				return apierrors.NewTooManyRequests("slow down", 5), false
			}
			return nil, false
		})
		c.start()
		c.run(30 * time.Second)
		c.covered(30, "agent:1")
		if n := refused.Load(); n > delivery.FirstWindow {
			t.Errorf("%d requests although the server asked for silence", n)
		}
		if got := c.events("FailedCreate"); len(got) != 0 {
			t.Errorf("throttling is not a failure: %q", got)
		}
	})
}

func TestTerminatingNamespaceIsQuiet(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(30)
		c.addSet()
		var tries atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.verb != "create" || r.namespace != "default" {
				return nil, false
			}
			if r.resource == "pods" {
				tries.Add(1)
			}
			err := apierrors.NewForbidden(schema.GroupResource{Resource: r.resource}, "agent", errors.New("namespace is being terminated"))
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			if r.resource == "pods" {
				return err, false
			}
			return nil, false
		})
		c.start()
		c.run(50 * time.Second)
		// Those that were under way, and some that were decided meanwhile.
		if n := tries.Load(); n > 2*delivery.FirstWindow {
			t.Errorf("%d creates in a namespace that goes away", n)
		}
		if got := c.events("FailedCreate"); len(got) != 0 {
			t.Errorf("events %q", got)
		}
	})
}

// Another owner's pod under our name does not stop us; our own under our name is taken
// over.
func TestTakenNameGetsSalt(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		first := true
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") && first {
				first = false
				p := decode(r.body).(*corev1.Pod)
				c.mu.Lock()
				c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: p.Name}})
				c.mu.Unlock()
			}
			return nil, false
		})
		c.start()
		c.run(10 * time.Second)
		if p := c.podOn("node-01"); !metav1.IsControlledBy(p, c.set()) {
			t.Errorf("pod %s is not ours", p.Name)
		}
		if len(c.creates) != 2 {
			t.Errorf("creates: %v", c.creates)
		}
	})
}

// The pods of a deleted node go at once, but only if the deletion was watched.
func TestNodeDeletionIsNotMissingNode(t *testing.T) {
	left := func(c *cluster, node string) int {
		return len(slices.DeleteFunc(c.pods(), func(p *corev1.Pod) bool { return p.Spec.NodeName != node }))
	}
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.dead["node-01"] = true
		c.removeNode("node-01")
		c.run(2 * time.Second)
		if n := left(c, "node-01"); n != 0 {
			t.Errorf("%d pods of the deleted node are left after 2 s", n)
		}

		// One node that is missing from a new list, and one after a restart.
		c.mu.Lock()
		delete(c.objects["nodes"], "node-02") // no event
		c.mu.Unlock()
		c.cutWatches(true)
		c.run(10 * time.Second)
		c.stop()
		c.removeNode("node-03")
		c.start()
		c.run(time.Minute)
		if a, b := left(c, "node-02"), left(c, "node-03"); a != 1 || b != 1 {
			t.Errorf("nodes that were only found missing have %d and %d pods left; the pod garbage collector decides there", a, b)
		}
		if s := c.set().Status; s.DesiredNumberScheduled != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// A node that is deleted and registers again at once gets a new pod: the old one
// belonged to the old Node.
func TestNodeThatComesBackUnderItsName(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		old := c.podOn("node-01").UID
		c.removeNode("node-01")
		c.addNode("node-01")
		c.run(10 * time.Second)
		c.covered(2, "agent:1")
		if c.podOn("node-01").UID == old {
			t.Error("the pod of the old Node is still there")
		}
	})
}

// A deletion that the live read denies (the watch was wrong, or an old event was
// replayed) costs no pod.
func TestNodeDeletionIsConfirmed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.mu.Lock()
		n := c.objects["nodes"]["node-01"]
		c.store("nodes", "DELETED", n.DeepCopyObject())
		c.objects["nodes"]["node-01"] = n // still there for a GET
		c.mu.Unlock()
		c.run(10 * time.Second)
		c.podOn("node-01")
		if n := c.wrote("delete pods"); n != 0 {
			t.Errorf("%d deletes", n)
		}
	})
}

func TestCreatePace(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(50)
		c.addSet()
		c.start(func(cfg *Config) { cfg.CreateQPS = 5 })
		c.run(4*time.Second + 100*time.Millisecond)
		if n := c.wrote("create pods"); n < 20 || n > 22 {
			t.Errorf("%d creates in 4.1 s at 5 a second", n)
		}
		c.run(10 * time.Second)
		c.covered(50, "agent:1")
	})
}

func TestStatusKeepsWhatOthersSet(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		first := true
		c.intercept(func(r request) (error, bool) {
			if r.is("update", "daemonsets") && first {
				first = false // someone else is faster: our write meets a conflict
				c.editSet(func(ds *appsv1.DaemonSet) {
					ds.Status.Conditions = []appsv1.DaemonSetCondition{{Type: "Foreign", Status: corev1.ConditionTrue}}
				})
			}
			return nil, false
		})
		c.start()
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		if got := c.set().Status.Conditions; len(got) != 1 || got[0].Type != "Foreign" {
			t.Errorf("conditions %v", got)
		}
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Status.NumberReady = 77 })
		c.run(time.Second)
		c.covered(3, "agent:1")
	})
}

func TestLargeSetWritesFewStatuses(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(100)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 10 })
		c.start()
		c.run(30 * time.Second)
		writes := c.wrote("update daemonsets")
		events := c.wrote("create events") + c.wrote("patch events")
		c.editSet(image("agent:2"))
		begin := time.Now()
		for s := c.set().Status; s.ObservedGeneration != 2 || s.UpdatedNumberScheduled != 100 || s.NumberAvailable != 100; s = c.set().Status {
			c.run(100 * time.Millisecond)
			if time.Since(begin) > 10*time.Minute {
				t.Fatalf("the rollout does not end: %+v", c.set().Status)
			}
		}
		took := time.Since(begin)
		c.covered(100, "agent:2")
		n := c.wrote("update daemonsets") - writes
		if n > int(took/time.Second)+3 {
			t.Errorf("%d status writes in %s", n, took)
		}
		t.Logf("100 pods replaced in %s: %d deletes, %d creates, %d status writes, %d event writes", took,
			c.wrote("delete pods"), c.wrote("create pods")-100, n, c.wrote("create events")+c.wrote("patch events")-events)
	})
}
