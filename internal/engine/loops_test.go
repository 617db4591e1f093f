package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// evictor deletes every pod of a node soon after it was created, as long as it is on.
type evictor struct {
	on    atomic.Bool
	made  atomic.Int32 // how many pods were created there
	force bool         // no grace period, and no DisruptionTarget condition
}

func (c *cluster) evict(node string, after time.Duration, ev *evictor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inner, seen := c.after, map[types.UID]bool{}
	ev.on.Store(true)
	c.after = func(pod *corev1.Pod) {
		inner(pod)
		if pod.Spec.NodeName != node || seen[pod.UID] {
			return
		}
		seen[pod.UID] = true
		ev.made.Add(1)
		time.AfterFunc(after, func() {
			if !ev.on.Load() {
				return
			}
			if ev.force {
				c.finish(pod)
				return
			}
			c.editPod(pod.Name, func(p *corev1.Pod) {
				if p.UID != pod.UID || p.DeletionTimestamp != nil {
					return
				}
				at, grace := c.now(), int64(1)
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"})
			})
		})
	}
}

// Whoever deletes the pods of a node as they come, and however, sees them recreated more and more slowly. Nobody else is
// affected, and a change of the node leads to a try soon.
func TestEvictedPodsComeBackMoreAndMoreSlowly(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprintf("force=%v", force), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.stops = 50 * time.Millisecond
				c.addNodes(3)
				c.addSet()
				c.start()
				c.run(10 * time.Second)
				others := c.podOn("node-01").UID + c.podOn("node-03").UID
				ev := &evictor{force: force}
				c.evict("node-02", 20*time.Millisecond, ev)
				c.editPod(c.podOn("node-02").Name, func(p *corev1.Pod) { p.Annotations = map[string]string{"seen": "yes"} })
				c.run(30 * time.Second)
				if n := ev.made.Load(); n < 5 || n > 12 {
					t.Errorf("%d pods in the first 30 s", n)
				}
				ev.made.Store(0)
				c.run(time.Hour)
				if n := ev.made.Load(); n < 5 || n > 25 {
					t.Errorf("%d pods in the hour after", n)
				}
				if got := c.podOn("node-01").UID + c.podOn("node-03").UID; got != others {
					t.Error("pods of other nodes were replaced")
				}
				events := strings.Join(c.events("PodsDoNotLast"), "\n")
				if !strings.Contains(events, "node node-02: 3 pods were deleted by others") || strings.Contains(events, "by the taint manager") == force {
					t.Errorf("events:\n%s", events)
				}
				ev.on.Store(false)
				c.editNode("node-02", func(n *corev1.Node) { n.Labels["mended"] = "yes" })
				c.run(15 * time.Second)
				c.covered(3, "agent:1")
			})
		})
	}
}

// A create that is under way for a minute, because of a webhook, is not a pod that lasts for a minute: there, too, pods are
// recreated more and more slowly.
func TestEvictedPodsComeBackMoreAndMoreSlowlyThoughCreatesAreSlow(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.stops = 50 * time.Millisecond
		slow := &slowServer{c: c, takes: func(r request) time.Duration {
			if r.is("create", "pods") {
				return 58 * time.Second
			}
			return 0
		}}
		c.addNodes(1)
		c.addSet()
		c.start(slow.use)
		ev := &evictor{}
		c.evict("node-01", 3*time.Second, ev)
		c.run(20 * time.Minute)
		ev.made.Store(0)
		c.run(time.Hour)
		if n := ev.made.Load(); n < 5 || n > 20 {
			t.Errorf("%d pods in an hour", n)
		}
		c.stop()
		c.run(2 * time.Minute) // what is still under way ends
	})
}

// A pod that somebody deletes by hand is back at once, even the third time.
func TestPodDeletedByHandIsBackAtOnce(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		for range 3 {
			c.finish(c.podOn("node-01"))
			c.run(100 * time.Millisecond)
			c.podOn("node-01")
			c.run(10 * time.Second)
		}
		for range 20 {
			c.run(2 * time.Minute)
			c.finish(c.podOn("node-01"))
			c.run(100 * time.Millisecond)
			c.podOn("node-01")
		}
	})
}

// An edit of the template may end the trouble: a create is tried at once.
func TestEditEndsThePauseOfPodsThatDoNotLast(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.stops = 50 * time.Millisecond
		c.addNodes(2)
		c.addSet()
		c.start()
		ev := &evictor{}
		c.evict("node-02", 20*time.Millisecond, ev)
		c.run(20 * time.Minute)
		ev.on.Store(false)
		c.editSet(image("agent:2"))
		c.run(10 * time.Second)
		c.covered(2, "agent:2")
	})
}

// What admission does to our pods must not cause a loop either.
func TestAdmissionThatTakesPodsAway(t *testing.T) {
	for what, change := range map[string]func(*corev1.Pod){
		"labels": func(p *corev1.Pod) { p.Labels = map[string]string{"mesh": "on"} },
		"owner":  func(p *corev1.Pod) { p.OwnerReferences, p.Labels = nil, nil },
		"revision": func(p *corev1.Pod) {
			delete(p.Labels, "controller-revision-hash")
			delete(p.Labels, "pod-template-generation")
		},
		"node": func(p *corev1.Pod) { p.Spec.NodeName = "elsewhere" },
	} {
		t.Run(what, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(1)
				c.addSet()
				c.mutate = change
				c.start()
				c.run(time.Hour)
				if n := c.wrote("create pods"); n > 160 { // each tries several names
					t.Errorf("%d creates of one pod in an hour", n)
				}
				if n := c.wrote("delete pods"); n > 80 {
					t.Errorf("%d deletes in an hour", n)
				}
			})
		})
	}
}

// A pod whose owner reference names the API group that DaemonSets were in originally is still ours.
func TestOwnerOfTheFirstGroup(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = "extensions/v1beta1" })
		before := c.wrote("create pods")
		c.run(10 * time.Minute)
		c.covered(2, "agent:1")
		if n := c.wrote("create pods") - before; n > 0 {
			t.Errorf("%d creates beside a pod that is there", n)
		}
	})
}

// A controller reference that has our UID but another kind does not count: the name is taken, and is not retried without
// end.
func TestOwnerOfAnotherKindWithOurUID(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = "apps.kruise.io/v1alpha1" })
		before := c.wrote("create pods")
		c.run(time.Hour)
		if n := c.wrote("create pods") - before; n > 10 {
			t.Errorf("%d creates", n)
		}
	})
}

// A pod that changes faster than a delete can name its version is retried at growing pauses.
func TestConflictsSlowDown(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		tries := atomic.Int32{}
		c.intercept(func(r request) (error, bool) {
			if r.is("delete", "pods") {
				tries.Add(1)
				return apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, r.name, errors.New("it has changed")), false
			}
			return nil, false
		})
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		if n := tries.Load(); n < 10 || n > 50 {
			t.Errorf("%d deletes were tried in ten minutes", n)
		}
	})
}

// notFounds returns 404s that say nothing about a pod.
func notFounds() map[string]error {
	pods := schema.GroupResource{Resource: "pods"}
	other := apierrors.NewNotFound(pods, "")
	other.ErrStatus.Details = nil
	return map[string]error{
		"a page of a proxy":                              apierrors.NewGenericServerResponse(404, "get", pods, "page", "page not found", 0, true),
		"a server that does not serve pods yet":          other,
		"a Status about something else":                  apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "default"),
		"an error that is not a Status and says as much": errors.New("404 page not found"),
	}
}

// A 404 from anywhere but the API server hides no pod, however often it comes.
func TestForeign404(t *testing.T) {
	for what, err := range notFounds() {
		t.Run(what, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(2)
				c.addSet()
				c.start()
				c.run(10 * time.Second)
				until := time.Now().Add(5 * time.Second)
				c.intercept(func(r request) (error, bool) {
					if r.resource == "pods" && r.name != "" && r.verb != "create" && time.Now().Before(until) {
						if s, ok := err.(*apierrors.StatusError); ok && s.ErrStatus.Details != nil && s.ErrStatus.Details.Name == "page" {
							return apierrors.NewGenericServerResponse(404, r.verb, schema.GroupResource{Resource: "pods"}, r.name, "page not found", 0, true), false
						}
						return err, false
					}
					return nil, false
				})
				c.editSet(image("agent:2"))
				before := c.wrote("create pods")
				c.run(2 * time.Minute)
				c.covered(2, "agent:2")
				if n := c.wrote("create pods") - before; n != 2 {
					t.Errorf("%d creates, want 2", n)
				}
			})
		})
	}
}

// A 404 from anywhere but the API server ends neither the writing of a status nor the life of a revision.
func TestForeign404OfStatusAndRevisions(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		for i := range 3 {
			c.editSet(image(fmt.Sprintf("agent:%d", i%2+1))) // forward, and back to a revision that is then renumbered
			until := time.Now().Add(20 * time.Second)
			c.intercept(func(r request) (error, bool) {
				if (r.resource == "daemonsets" && r.sub == "status" || r.resource == "controllerrevisions" && r.name != "") && time.Now().Before(until) {
					return apierrors.NewGenericServerResponse(404, r.verb, schema.GroupResource{Resource: r.resource}, r.name, "page not found", 0, true), false
				}
				return nil, false
			})
			c.run(2 * time.Minute)
			c.covered(2, fmt.Sprintf("agent:%d", i%2+1))
			if s := c.set().Status; s.ObservedGeneration != c.set().Generation || s.UpdatedNumberScheduled != 2 {
				t.Errorf("after edit %d the status is %+v", i+1, s)
			}
		}
	})
}

// A 404 that cannot be distinguished from a true one hides a pod only until the next live read, which comes by itself.
func TestPerfect404IsFoundOut(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		var lies atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.resource == "pods" && (r.verb == "get" || r.verb == "delete") && lies.Add(1) <= 2 {
				return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, r.name), false
			}
			return nil, false
		})
		c.editSet(image("agent:2"))
		before := c.wrote("create pods")
		c.run(2 * time.Minute)
		c.covered(2, "agent:2")
		if n := c.wrote("create pods") - before; n > 6 {
			t.Errorf("%d creates", n)
		}
		c.finish(c.podOn("node-01"))
		c.run(10 * time.Second)
		c.covered(2, "agent:2")
	})
}
