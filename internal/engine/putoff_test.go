package engine

import (
	"errors"
	"fmt"
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
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/delivery"
)

func forbidden(pod, why string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod, errors.New(why))
}

// surge makes an update start new pods first.
func surge(n int) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		zero, some := intstr.FromInt32(0), intstr.FromInt(n)
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge = &zero, &some
	}
}

// A refusal on one node does not hold up the update of the others, whether it comes
// from a policy or from a failing webhook, for a delete, a create with surge, or a
// patch; and the metrics show it (I12).
func TestWhatIsRefusedHoldsNoRoom(t *testing.T) {
	const nodes = 6
	broken := apierrors.NewInternalError(errors.New("failed calling webhook: connection refused"))
	for name, test := range map[string]struct {
		set    func(*appsv1.DaemonSet)
		refuse func(r request, held *corev1.Pod) error
	}{
		"delete": {func(*appsv1.DaemonSet) {}, func(r request, held *corev1.Pod) error {
			if r.is("delete", "pods") && r.name == held.Name {
				return forbidden(held.Name, "admission webhook denied the request: protected")
			}
			return nil
		}},
		"delete fails": {func(*appsv1.DaemonSet) {}, func(r request, held *corev1.Pod) error {
			if r.is("delete", "pods") && r.name == held.Name {
				return broken
			}
			return nil
		}},
		"surge": {surge(1), func(r request, held *corev1.Pod) error {
			if r.is("create", "pods") && decode(r.body).(*corev1.Pod).Spec.NodeName == held.Spec.NodeName {
				return forbidden("x", "admission webhook denied the request")
			}
			return nil
		}},
		"surge fails": {surge(1), func(r request, held *corev1.Pod) error {
			if r.is("create", "pods") && decode(r.body).(*corev1.Pod).Spec.NodeName == held.Spec.NodeName {
				return broken
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				m := NewMonitor()
				c.addNodes(nodes)
				c.addSet(test.set)
				c.start(func(cfg *Config) { cfg.Monitor = m })
				c.run(20 * time.Second)
				held := c.podOn("node-01")
				c.intercept(func(r request) (error, bool) { return test.refuse(r, held), false })
				c.watchBudget(nodes, 1)
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				if n := c.updated("agent:2"); n != nodes-1 {
					t.Errorf("%d of %d other nodes are updated: %+v", n, nodes-1, c.set().Status)
				}
				for at := time.Now(); metrics(t, m)["daemonset_nodes{reason=WriteFailed}"] != 1; c.run(time.Second) {
					if time.Since(at) > time.Minute {
						t.Fatalf("the metrics do not say that a node waits: %v", metrics(t, m))
					}
				}
				c.intercept(nil)
				c.run(3 * time.Minute)
				c.covered(nodes, "agent:2")
			})
		})
	}
}

// A node that waits for its next try reports what was refused, without the name of the
// pod: nodes with the same refusal share one text.
func TestWhatWasRefusedIsSaid(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") {
				name := decode(r.body).(*corev1.Pod).Name
				return forbidden(name, "admission webhook denied the request: "+strings.Repeat("long ", 100)), false
			}
			return nil, false
		})
		seen := map[string]int{}
		c.start(func(cfg *Config) {
			inner := cfg.decided
			cfg.decided = func(e *engine, set *setEntry, st *state) {
				inner(e, set, st)
				clear(seen)
				for i := range 3 {
					for _, w := range st.waitsOf(fmt.Sprintf("node-%02d", i+1), st.now) {
						seen[w.What]++
					}
				}
			}
		})
		c.run(10 * time.Second)
		for what, n := range seen {
			if n != 3 || len(what) > maxBlame+20 || !strings.HasPrefix(what, "create: pods is forbidden: admission webhook denied the request: long") {
				t.Errorf("%d nodes say %q", n, what)
			}
		}
		if len(seen) != 1 {
			t.Errorf("%d texts: %v", len(seen), seen)
		}
	})
}

// told fails the test unless an event of that reason names the node and what was refused,
// and the metrics say that one node waits.
func (c *cluster) told(m *Monitor, reason, node, what string) {
	c.t.Helper()
	for at := time.Now(); metrics(c.t, m)["daemonset_nodes{reason=WriteFailed}"] != 1; c.run(time.Second) {
		if time.Since(at) > time.Minute {
			c.t.Fatalf("the metrics do not say that a node waits: %v", metrics(c.t, m))
		}
	}
	if got := c.events(reason); !slices.ContainsFunc(got, func(e string) bool {
		return strings.Contains(e, "node "+node+":") && strings.Contains(e, what)
	}) {
		c.t.Errorf("no event %s of %s says %q: %q", reason, node, what, got)
	}
}

// Every refusal is reported: a webhook's 429, and a delete that fails because something
// keeps changing. It is not reported that the server itself is busy.
func TestEveryRefusalIsTold(t *testing.T) {
	busy := apierrors.NewTooManyRequests("the server is busy", 1)
	for name, test := range map[string]struct {
		verb   string
		err    error
		reason string
		what   string
	}{
		"webhook throttles a create": {"create", (&webhook{verb: "create", refuses: 429}).refusal(), "FailedCreate", "denied the request"},
		"webhook throttles a delete": {"delete", (&webhook{verb: "delete", refuses: 429}).refusal(), "FailedDelete", "denied the request"},
		"always changed":             {"delete", apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "p", errors.New("it has changed")), "FailedDelete", "keeps changing"},
		"server throttles":           {"create", busy, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				m := NewMonitor()
				c.addNodes(3)
				c.addSet()
				c.start(func(cfg *Config) { cfg.Monitor = m })
				c.run(20 * time.Second)
				held := c.podOn("node-01")
				c.intercept(func(r request) (error, bool) {
					mine := r.name == held.Name
					if r.is("create", "pods") {
						mine = decode(r.body).(*corev1.Pod).Spec.NodeName == "node-01"
					}
					if mine && r.is(test.verb, "pods") {
						return test.err, false
					}
					return nil, false
				})
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				if test.reason != "" {
					c.told(m, test.reason, "node-01", test.what)
				} else if got := append(c.events("FailedCreate"), c.events("FailedDelete")...); len(got) > 0 {
					t.Errorf("events %q", got)
				}
			})
		})
	}
}

// So are refusals that concern the DaemonSet as a whole.
func TestRefusedRevisionAndStatusAreTold(t *testing.T) {
	for verb, resource := range map[string]string{"create": "controllerrevisions", "update": "daemonsets"} {
		inCluster(t, func(c *cluster) {
			c.addNodes(2)
			c.addSet()
			c.intercept(func(r request) (error, bool) {
				if r.is(verb, resource) {
					return (&webhook{verb: verb, resource: resource, refuses: 403}).refusal(), false
				}
				return nil, false
			})
			c.start()
			c.run(10 * time.Minute)
			got := c.events("FailedSync")
			if want := fmt.Sprintf("no %s of %s", verb, resource); len(got) == 0 || !strings.Contains(got[0], want) {
				t.Errorf("events %q, want one that says %q", got, want)
			}
			c.intercept(nil)
			c.run(2 * time.Minute)
			c.covered(2, "agent:1")
		})
	}
}

// orphan puts an orphan pod that the DaemonSet selects on a node that is about to come.
func (c *cluster) orphan(name, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "agent"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "agent", Image: "agent:1"}}}})
}

// An orphan that cannot be adopted, because its patch is refused or because the
// DaemonSet cannot be read again, holds up only its own node, and is reported.
func TestOrphanThatCannotBeAdopted(t *testing.T) {
	for name, refuse := range map[string]func(r request) bool{
		"patch refused": func(r request) bool { return r.is("patch", "pods") },
		"set unread":    func(r request) bool { return r.is("get", "daemonsets") },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				m := NewMonitor()
				c.addNodes(2)
				c.addSet()
				c.start(func(cfg *Config) { cfg.Monitor = m })
				c.run(20 * time.Second)
				var refused atomic.Int32
				c.intercept(func(r request) (error, bool) {
					if refuse(r) {
						refused.Add(1)
						return forbidden(r.name, "admission webhook denied the request"), false
					}
					return nil, false
				})
				c.orphan("stray", "node-03")
				c.run(time.Second)
				c.addNode("node-03")
				c.run(time.Second)
				c.addNode("node-04")
				c.run(5 * time.Second)
				c.podOn("node-04")
				c.run(10 * time.Minute)
				if p := c.podOn("node-03"); p.Name != "stray" || refused.Load() > 40 {
					t.Errorf("%s is on the node, after %d tries", p.Name, refused.Load())
				}
				c.told(m, "FailedClaim", "node-03", "denied the request")
				c.intercept(nil)
				c.run(2 * time.Minute)
				c.covered(4, "agent:1")
			})
		})
	}
}

// A pod whose owner or label cannot be changed postpones only its node.
func TestRefusedPatchHoldsNoRoom(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		lost := c.podOn("node-01").Name
		c.intercept(func(r request) (error, bool) {
			if r.is("patch", "pods") && r.name == lost {
				return forbidden(lost, "admission webhook denied the request"), false
			}
			return nil, false
		})
		c.editPod(lost, func(p *corev1.Pod) { p.Labels["app"] = "other" }) // no longer selected: to be released
		c.run(time.Second)
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		if n := c.updated("agent:2"); n != 3 {
			t.Errorf("%d of 3 other nodes are updated: %+v", n, c.set().Status)
		}
	})
}

// A pod that keeps changing in fields that do not matter is updated like the others,
// and costs a few requests.
func TestBusyPodIsUpdated(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(every.String(), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet()
				c.start()
				c.run(10 * time.Second)
				c.slowDown(func(r request) time.Duration {
					if r.is("delete", "pods") || r.is("get", "pods") {
						return 10 * time.Millisecond
					}
					return 0
				})
				old := c.podOn("node-01")
				var tries atomic.Int32
				c.intercept(func(r request) (error, bool) {
					if r.is("delete", "pods") && r.name == old.Name {
						tries.Add(1)
					}
					return nil, false
				})
				c.editSet(image("agent:2"))
				for i := 0; i < min(int(20*time.Second/every), 2000); i++ {
					c.editPod(old.Name, func(p *corev1.Pod) {
						if p.UID == old.UID && p.DeletionTimestamp == nil {
							p.Annotations = map[string]string{"beat": fmt.Sprint(i)}
						}
					})
					c.run(every)
				}
				c.run(20 * time.Second)
				c.covered(3, "agent:2")
				if n := tries.Load(); n > 2*(delivery.MaxConflicts+2) {
					t.Errorf("%d deletes were tried", n)
				}
			})
		})
	}
}

// A pod that becomes ready just before it would be deleted for not being ready stays,
// however often it changes otherwise.
func TestBusyPodThatBecomesReadyStays(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.deny("delete pods")
		one, two := c.podOn("node-01"), c.podOn("node-02")
		c.editPod(one.Name, func(p *corev1.Pod) { ready(p, false) })
		c.editSet(image("agent:2"))
		c.run(5 * time.Second)
		beat := 0
		c.intercept(func(r request) (error, bool) {
			if r.is("delete", "pods") && r.name == one.Name {
				beat++
				c.editPod(one.Name, func(p *corev1.Pod) {
					p.Annotations = map[string]string{"beat": fmt.Sprint(beat)}
					ready(p, beat > delivery.MaxConflicts+1)
				})
				if beat == 1 {
					c.editPod(two.Name, func(p *corev1.Pod) { ready(p, false) }) // the budget is spent
				}
			}
			return nil, false
		})
		c.mu.Lock()
		delete(c.denied, "delete pods")
		c.mu.Unlock()
		c.run(time.Minute)
		c.covered(2, "agent:2")
		if beat <= delivery.MaxConflicts+1 {
			t.Errorf("%d deletes: the pod was not busy", beat)
		}
	})
}

// Only the act that was refused waits: a pod that should no longer be on its node goes
// at once, although a create on the node has been refused all the time, and so does one
// that a departed node has left.
func TestRefusedCreateHoldsNoDelete(t *testing.T) {
	for name, goes := range map[string]func(c *cluster){
		"not selected": func(c *cluster) { c.editNode("node-01", func(n *corev1.Node) { n.Labels["pool"] = "red" }) },
		"node gone":    func(c *cluster) { c.removeNode("node-01") },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(2)
				for _, n := range []string{"node-01", "node-02"} {
					c.editNode(n, func(n *corev1.Node) { n.Labels["pool"] = "blue" })
				}
				c.addSet(surge(1), func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "blue"} })
				c.start()
				c.run(20 * time.Second)
				c.intercept(func(r request) (error, bool) {
					if r.is("create", "pods") && decode(r.body).(*corev1.Pod).Spec.NodeName == "node-01" {
						return forbidden("x", "admission webhook denied the request"), false
					}
					return nil, false
				})
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				c.podOn("node-01")
				goes(c)
				c.run(3 * time.Second)
				c.covered(1, "agent:2")
			})
		})
	}
}

// A webhook that answers 429 forever is asked less and less often, however long it asks
// us to wait: one for the pods of one node, and one for all.
func TestThrottledLessAndLess(t *testing.T) {
	for _, nodes := range []int{1, 40} {
		for _, after := range []int{0, 1} {
			t.Run(fmt.Sprintf("%d nodes, after %d s", nodes, after), func(t *testing.T) {
				inCluster(t, func(c *cluster) {
					c.addNodes(nodes)
					c.addSet()
					c.admit(webhook{verb: "create", resource: "pods", refuses: 429, retryAfter: after})
					var posts atomic.Int32
					c.intercept(func(r request) (error, bool) {
						if r.is("create", "pods") {
							posts.Add(1)
						}
						return nil, false
					})
					c.start()
					c.run(10 * time.Minute)
					if n, most := int(posts.Load()), 50*min(nodes, 12); n < 5 || n > most {
						t.Errorf("%d creates were sent within 10 minutes, want at most %d", n, most)
					}
					c.admit()
					c.run(2 * time.Minute)
					c.covered(nodes, "agent:1")
				})
			})
		}
	}
}

// The same for deletes on one node, while the others go on.
func TestThrottledDelete(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		held := c.podOn("node-01").Name
		c.admit(webhook{verb: "delete", resource: "pods", name: held, refuses: 429})
		var tries atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.is("delete", "pods") && r.name == held {
				tries.Add(1)
			}
			return nil, false
		})
		c.editSet(image("agent:2"))
		c.run(10 * time.Minute)
		if n := tries.Load(); n < 5 || n > 25 || c.updated("agent:2") != 2 {
			t.Errorf("%d deletes were sent; %d of 2 other nodes are updated", n, c.updated("agent:2"))
		}
	})
}
