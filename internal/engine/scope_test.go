package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// asked records how an engine has asked for pods.
type asked struct {
	mu      sync.Mutex
	watches []string // the selectors of its watches of pods, in order
	lists   []string // the selectors of its lists
	reads   int      // reads of single pods
	failing bool     // reads of single pods fail
}

// listen records how engines ask for pods from now on.
func (c *cluster) listen() *asked {
	a := &asked{}
	c.intercept(func(r request) (error, bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if r.resource != "pods" {
			return nil, false
		}
		selector := first(r.query["labelSelector"])
		switch r.verb {
		case "watch":
			a.watches = append(a.watches, selector)
		case "list":
			a.lists = append(a.lists, selector)
		case "get":
			a.reads++
			if a.failing {
				return apierrors.NewInternalError(fmt.Errorf("the store is away")), false
			}
		}
		return nil, false
	})
	return a
}

// width returns how the last watch of pods was asked for: narrow, wide, or not at all.
func (a *asked) width() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(a.watches) == 0:
		return "none"
	case a.watches[len(a.watches)-1] == "":
		return "wide"
	case a.watches[len(a.watches)-1] == "!pod-template-hash,!batch.kubernetes.io/job-name,!job-name":
		return "narrow"
	}
	return a.watches[len(a.watches)-1]
}

func (a *asked) fail(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing = on
}

// is fails the test unless the watch of pods has that width.
func (a *asked) is(t *testing.T, want, when string) {
	t.Helper()
	if got := a.width(); got != want {
		t.Errorf("%s: the watch of pods is %s, want %s", when, got, want)
	}
}

// addForeign adds a pod of a ReplicaSet.
func (c *cluster) addForeign(name, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add("pods", &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, Labels: map[string]string{"app": "web", "pod-template-hash": "5f6d"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5f6d", UID: "uid-web", Controller: new(true)}}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "web", Image: "web:1"}}},
	})
}

// labelPod puts a label on a pod, as a person may.
func (c *cluster) labelPod(name, key, value string) {
	c.editPod(name, func(p *corev1.Pod) {
		if value == "" {
			delete(p.Labels, key)
		} else {
			p.Labels[key] = value
		}
	})
}

// agents returns the pods of default/agent, by node.
func (c *cluster) agents() map[string][]*corev1.Pod {
	on := map[string][]*corev1.Pod{}
	for _, p := range c.pods() {
		if metav1.IsControlledBy(p, c.set()) {
			on[p.Spec.NodeName] = append(on[p.Spec.NodeName], p)
		}
	}
	return on
}

// one checks that each of nodes nodes has one pod of default/agent, ready, of that image, that the status
// says so, and that made pods were created for that.
func (c *cluster) one(nodes int, image string, made int, when string) {
	c.t.Helper()
	on := c.agents()
	for node, pods := range on {
		if len(pods) != 1 || pods[0].Spec.Containers[0].Image != image || !isReady(pods[0]) || pods[0].DeletionTimestamp != nil {
			c.t.Errorf("%s: on %s: %d pods, the first is %s of %s, ready %v, deleted %v", when, node, len(pods),
				pods[0].Name, pods[0].Spec.Containers[0].Image, isReady(pods[0]), pods[0].DeletionTimestamp)
		}
	}
	s := c.set().Status
	if len(on) != nodes || int(s.NumberAvailable) != nodes || int(s.UpdatedNumberScheduled) != nodes {
		c.t.Errorf("%s: pods on %d nodes, want %d; status %+v", when, len(on), nodes, s)
	}
	if got := c.wrote("create pods"); got != made {
		c.t.Errorf("%s: %d creates of pods, want %d", when, got, made)
	}
}

// Pods of ReplicaSets are neither listed nor watched, and so change nothing here, however often they change.
// Everything else goes on as always.
func TestForeignPodsStayAtTheServer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		a := c.listen()
		for i := range 30 {
			c.addForeign(fmt.Sprint("web-", i), "node-01")
		}
		c.start()
		c.run(10 * time.Second)
		c.one(3, "agent:1", 3, "at first")
		for range 5 {
			for i := range 30 {
				edit(c, "pods", fmt.Sprint("web/web-", i), func(p *corev1.Pod) { p.Status.Message += "." })
			}
			c.run(time.Second)
		}
		c.cutWatches(true)
		c.run(time.Minute)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.one(3, "agent:2", 6, "after an update")
		a.is(t, "narrow", "with foreign pods")
		for _, l := range append(a.lists, a.watches...) {
			if l == "" {
				t.Errorf("all pods were asked for: lists %q, watches %q", a.lists, a.watches)
			}
		}
		if a.reads != 0 {
			t.Errorf("%d pods were read", a.reads)
		}
	})
}

// A pod that gets a label of Deployments' pods leaves the watch as if it were gone. It is not taken for gone:
// no second pod is created, and what happens to it is seen. When it loses the label again, the watch becomes
// narrow again, some time later.
func TestPodThatLooksForeign(t *testing.T) {
	for _, key := range foreignLabels() {
		t.Run(key, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet()
				a := c.listen()
				c.start()
				c.run(10 * time.Second)
				a.is(t, "narrow", "at first")
				odd := c.podOn("node-02").Name
				c.labelPod(odd, key, "by-hand")
				c.run(5 * time.Second)
				c.one(3, "agent:1", 3, "with the label")
				a.is(t, "wide", "with the label")
				c.editPod(odd, func(p *corev1.Pod) { ready(p, false) })
				c.run(2 * time.Second)
				if n := c.set().Status.NumberAvailable; n != 2 {
					t.Errorf("a pod with the label is not ready, and %d are available", n)
				}
				c.editPod(odd, func(p *corev1.Pod) { ready(p, true) })
				c.editSet(image("agent:2"))
				c.run(30 * time.Second)
				c.one(3, "agent:2", 6, "after an update, which replaces it")
				c.run(wideFor + 2*scopeEvery)
				a.is(t, "narrow", "when no pod has the label any more")
				c.one(3, "agent:2", 6, "in the end")
			})
		})
	}
}

// As long as the server cannot say what has happened to a pod that has left the watch, the pod counts as
// before; and one that is really gone is replaced once the server says so.
func TestPodInDoubt(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		a := c.listen()
		c.start()
		c.run(10 * time.Second)
		a.fail(true)
		stays, goes := c.podOn("node-01"), c.podOn("node-02")
		c.labelPod(stays.Name, "job-name", "x")
		c.labelPod(goes.Name, "job-name", "x")
		c.run(time.Minute)
		c.one(3, "agent:1", 3, "while no read works")
		a.is(t, "narrow", "while no read works")
		c.mu.Lock()
		c.removeObject("pods", c.objects["pods"]["default/"+goes.Name], metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		c.mu.Unlock()
		c.run(time.Minute)
		if got := c.wrote("create pods"); got != 3 {
			t.Errorf("%d creates: the watch cannot tell that the pod has gone, and no read works", got)
		}
		a.fail(false)
		c.run(20 * time.Second)
		c.one(3, "agent:1", 4, "when reads work")
		if c.podOn("node-01").UID != stays.UID {
			t.Error("the pod that was there all the time was replaced")
		}
	})
}

// The label is removed before anybody could read the pod: the watch shows it again.
func TestPodInDoubtComesBack(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		a := c.listen()
		c.start()
		c.run(10 * time.Second)
		a.fail(true)
		odd := c.podOn("node-01").Name
		c.labelPod(odd, "job-name", "x")
		c.run(time.Second)
		c.labelPod(odd, "job-name", "")
		c.run(time.Second)
		before := a.reads
		c.run(time.Minute)
		if a.reads != before {
			t.Errorf("%d reads of a pod that the watch shows", a.reads-before)
		}
		a.fail(false)
		c.run(10 * time.Second)
		c.one(2, "agent:1", 2, "in the end")
		a.is(t, "narrow", "in the end")
	})
}

// A pod got the label while nobody watched. The list does not have it, but a search finds it.
func TestHiddenPodIsFoundWithEachList(t *testing.T) {
	for _, how := range []string{"the engine was away", "the watch was interrupted"} {
		t.Run(how, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet()
				a := c.listen()
				c.start()
				c.run(10 * time.Second)
				away := how == "the engine was away"
				if away {
					c.stop()
				} else {
					c.stall("pods", true)
				}
				c.labelPod(c.podOn("node-03").Name, "pod-template-hash", "x")
				c.run(time.Second)
				if away {
					c.start()
				} else {
					c.cutWatches(true)
					c.stall("pods", false)
				}
				c.run(20 * time.Second)
				c.one(3, "agent:1", 3, how)
				a.is(t, "wide", how)
				c.editSet(image("agent:2"))
				c.run(30 * time.Second)
				c.one(3, "agent:2", 6, "after an update")
			})
		})
	}
}

// A standby follows pods in the width that is needed, too.
func TestStandbySeesPodsThatLookForeign(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(5 * time.Second)
		c.start(elect("two"))
		c.run(5 * time.Second)
		c.labelPod(c.podOn("node-01").Name, "pod-template-hash", "x")
		c.run(100 * time.Millisecond)
		stopOne()
		<-endedOne
		c.run(5 * time.Second)
		if got := c.leader(); got != "two" {
			t.Fatalf("the leader is %q", got)
		}
		c.editSet(image("agent:2"))
		c.run(30 * time.Second)
		c.one(3, "agent:2", 6, "with the next leader")
	})
}

// A standby knows nothing about a pod that another engine has created with such a label. When it leads, it
// finds the pod by its name, and does not create a second one.
func TestHiddenPodIsFoundByItsName(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.mutate = func(p *corev1.Pod) {
			if p.Spec.NodeName == "node-03" {
				p.Labels["job-name"] = "webhook"
			}
		}
		c.addNodes(3)
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(5 * time.Second)
		a := c.listen()
		c.start(elect("two"))
		c.run(5 * time.Second)
		c.addSet()
		c.run(10 * time.Second)
		c.one(3, "agent:1", 3, "with the first leader")
		c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { p.Status.Message = "the watch has gone on" })
		c.run(time.Second)
		stopOne()
		<-endedOne
		c.run(10 * time.Second)
		c.one(3, "agent:1", 4, "with the next leader, of whose creates one is refused")
		a.is(t, "wide", "with the next leader")
	})
}

// A standby that knows about such a pod, and waits for the list of all pods, starts to lead meanwhile.
func TestTakesOverBeforeAllPodsAreListed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(5 * time.Second)
		c.start(elect("two"))
		c.run(5 * time.Second)
		c.slowDown(wideListsTake(20 * time.Second))
		c.labelPod(c.podOn("node-02").Name, "job-name", "x")
		c.run(time.Second)
		stopOne()
		<-endedOne
		c.addNode("node-04")
		c.run(4 * time.Second)
		if on := c.agents(); len(on) != 4 || c.wrote("create pods") != 4 {
			t.Errorf("the next leader has not begun: pods on %d nodes, %d creates", len(on), c.wrote("create pods"))
		}
	})
}

// A leader that takes over does not list the foreign pods either, and has nothing to wait for.
func TestForeignPodsAtFailover(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		for i := range 10 {
			c.addForeign(fmt.Sprint("web-", i), "node-01")
		}
		a := c.listen()
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(5 * time.Second)
		c.start(elect("two"))
		c.run(5 * time.Second)
		stopOne()
		<-endedOne
		c.addNode("node-04")
		c.run(5 * time.Second)
		c.one(4, "agent:1", 4, "with the next leader")
		if all := slices.Concat(a.lists, a.watches); slices.Contains(all, "") {
			t.Errorf("all pods were asked for: %q", all)
		}
	})
}

// A DaemonSet whose pods look foreign is decided on once they are watched, whenever it gets that label.
func TestSetThatNamesAForeignLabel(t *testing.T) {
	named := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Labels["job-name"] = "agent" }
	selects := func(ds *appsv1.DaemonSet) {
		ds.Spec.Selector.MatchLabels["job-name"] = "agent"
		named(ds)
	}
	expression := func(ds *appsv1.DaemonSet) {
		ds.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "job-name", Operator: metav1.LabelSelectorOpExists}}
		named(ds)
	}
	for name, change := range map[string]func(*appsv1.DaemonSet){"template": named, "selector": selects, "expression": expression} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet(change)
				a := c.listen()
				c.start()
				c.run(10 * time.Second)
				c.one(3, "agent:1", 3, "at first")
				a.is(t, "wide", "at first")
				if slices.Contains(a.watches, narrowSelector()) {
					t.Errorf("watches %q: the width was known from the start", a.watches)
				}
				c.stop()
				c.start()
				c.run(10 * time.Second)
				c.one(3, "agent:1", 3, "after a start")
			})
		})
	}
	t.Run("an edit", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.addNodes(4)
			c.addSet()
			a := c.listen()
			c.start()
			c.run(10 * time.Second)
			c.watchBudget(4, 1)
			c.editSet(named)
			c.run(time.Minute)
			c.one(4, "agent:1", 8, "after the edit")
			a.is(t, "wide", "after the edit")
			c.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Spec.Template.Labels, "job-name") })
			c.run(time.Minute)
			c.one(4, "agent:1", 12, "after the edit back")
			c.run(wideFor + 2*scopeEvery)
			a.is(t, "narrow", "some time after the edit back")
		})
	})
}

// Pods that a Deployment has left as orphans still look like its pods. A DaemonSet that replaces it adopts
// them, and creates pods only where there are none.
func TestOrphansThatLookForeignAreAdopted(t *testing.T) {
	for _, how := range []string{"the DaemonSet comes later", "the DaemonSet is there at the start", "the DaemonSet names the label", "its selector is long"} {
		t.Run(how, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				left := map[types.UID]bool{}
				for _, node := range []string{"node-01", "node-02"} {
					c.mu.Lock()
					p := c.add("pods", &corev1.Pod{
						ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-" + node, Labels: map[string]string{"app": "agent", "pod-template-hash": "x"}},
						Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "agent", Image: "agent:0"}}},
					}).(*corev1.Pod)
					c.mu.Unlock()
					left[p.UID] = true
				}
				a := c.listen()
				later := how != "the DaemonSet is there at the start"
				onDelete := func(ds *appsv1.DaemonSet) {
					ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
					switch how {
					case "the DaemonSet names the label":
						ds.Spec.Template.Labels["pod-template-hash"] = "x"
					case "its selector is long":
						values := []string{"agent"}
						for i := range 1000 {
							values = append(values, fmt.Sprint("value-", i))
						}
						ds.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: values}}}
					}
				}
				if later {
					c.start()
					c.run(5 * time.Second)
					a.is(t, "narrow", "while no DaemonSet wants the orphans")
				}
				c.addSet(onDelete)
				if !later {
					c.start()
				}
				c.run(20 * time.Second)
				for node, pods := range c.agents() {
					if len(pods) != 1 || left[pods[0].UID] != (node != "node-03") {
						t.Errorf("on %s: %d pods, the first is %s", node, len(pods), pods[0].Name)
					}
				}
				if got := c.wrote("create pods"); got != 1 || len(c.agents()) != 3 {
					t.Errorf("%d pods made, and pods on %d nodes", got, len(c.agents()))
				}
				a.is(t, "wide", "with adopted pods that look foreign")
			})
		})
	}
}

func wideListsTake(d time.Duration) func(r request) time.Duration {
	return func(r request) time.Duration {
		if r.resource == "pods" && (r.verb == "watch" || r.verb == "list") && first(r.query["labelSelector"]) == "" {
			return d
		}
		return 0
	}
}

// The orphan that a DaemonSet waits for is deleted before all pods are listed.
func TestSetWaitsForWhatIsGone(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.mu.Lock()
		c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "left", Labels: map[string]string{"app": "agent", "job-name": "x"}},
			Spec: corev1.PodSpec{NodeName: "node-01", Containers: []corev1.Container{{Name: "agent", Image: "agent:0"}}}})
		c.mu.Unlock()
		c.start()
		c.run(5 * time.Second)
		c.slowDown(wideListsTake(3 * time.Second))
		c.addSet()
		c.run(time.Second)
		if n := c.wrote("create pods"); n != 0 {
			t.Errorf("%d pods were made before it was known what is there", n)
		}
		c.mu.Lock()
		c.removeObject("pods", c.objects["pods"]["default/left"], metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		c.mu.Unlock()
		c.run(10 * time.Second)
		c.one(2, "agent:1", 2, "in the end")
	})
}

// Another controller has created a DaemonSet's first pod, which looks foreign, before the engine could list
// all pods: the engine creates no second one.
func TestSetThatComesWithItsPods(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		a := c.listen()
		c.start()
		c.run(5 * time.Second)
		c.slowDown(wideListsTake(3 * time.Second))
		c.mu.Lock()
		ds := c.add("daemonsets", agentSet(func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Labels["job-name"] = "x"
			ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		})).(*appsv1.DaemonSet)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent-x7k2p", Labels: map[string]string{"app": "agent", "job-name": "x"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}},
			Spec: corev1.PodSpec{NodeName: "node-01", Containers: []corev1.Container{{Name: "agent", Image: "agent:1"}}}}
		c.add("pods", pod)
		c.mu.Unlock()
		for range 100 {
			c.run(100 * time.Millisecond)
			if n := len(c.agents()["node-01"]); n > 1 {
				t.Errorf("node-01 has %d pods", n)
				break
			}
		}
		if len(c.agents()["node-02"]) != 1 {
			t.Errorf("node-02 has %d pods", len(c.agents()["node-02"]))
		}
		a.is(t, "wide", "with such a DaemonSet")
	})
}

// A webhook labels a DaemonSet's pods as they are created: the answers to the creates show it.
func TestPodsThatAreMadeToLookForeign(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.mutate = func(p *corev1.Pod) { p.Labels["job-name"] = "webhook" }
		c.addNodes(5)
		c.addSet()
		a := c.listen()
		c.start()
		c.run(20 * time.Second)
		c.one(5, "agent:1", 5, "at first")
		a.is(t, "wide", "with such pods")
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.one(5, "agent:2", 10, "after an update")
	})
}

// Labels come and go, watches stand still, break and start again with a list, reads fail, and a DaemonSet is
// updated meanwhile: no pod is ever created beside another, and the budget holds.
func TestLabelsThatComeAndGo(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inCluster(t, func(c *cluster) { c.relabels(rand.New(rand.NewPCG(seed, 17))) })
		})
	}
}

func (c *cluster) relabels(rnd *rand.Rand) {
	const nodes = 6
	c.addNodes(nodes)
	c.addSet()
	a := c.listen()
	c.start()
	c.run(10 * time.Second)
	c.watchBudget(nodes, 1)
	made := nodes
	for range 60 {
		on := c.agents()
		node := fmt.Sprintf("node-%02d", 1+rnd.IntN(nodes))
		if len(on[node]) > 0 {
			value := []string{"", "x"}[rnd.IntN(2)]
			c.labelPod(on[node][0].Name, foreignLabels()[rnd.IntN(3)], value)
		}
		switch rnd.IntN(8) {
		case 0:
			c.stall("pods", true)
		case 1:
			c.cutWatches(rnd.IntN(2) == 0)
		case 2:
			a.fail(rnd.IntN(2) == 0)
		default:
			c.stall("pods", false)
		}
		c.run(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		for node, pods := range c.agents() {
			if len(pods) > 1 {
				c.t.Errorf("%s has %d pods", node, len(pods))
			}
		}
	}
	if got := c.wrote("create pods"); got != made {
		c.t.Errorf("%d creates while only labels changed, want %d", got, made)
	}
	c.stall("pods", false)
	a.fail(false)
	c.editSet(image("agent:2"))
	c.run(3 * time.Minute)
	c.one(nodes, "agent:2", 2*nodes, "after an update")
	c.run(wideFor + 2*scopeEvery)
	a.is(c.t, "narrow", "in the end")
}

// An object looks foreign if, and only if, the selector excludes it.
func TestNarrowSelectorIsWhatLooksForeign(t *testing.T) {
	r := request{query: map[string][]string{"labelSelector": {narrowSelector()}}}
	for _, labels := range []map[string]string{nil, {"app": "x"}, {"pod-template-hash": ""}, {"job-name": "x"}, {"batch.kubernetes.io/job-name": "y", "app": "x"},
		{"controller-revision-hash": "x"}, {"pod-template-generation": "1"}, {"statefulset.kubernetes.io/pod-name": "x"}} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
		if has(p, r.labels()) == looksForeign(labels) {
			t.Errorf("%v: the selector lets it through: %v, it looks foreign: %v", labels, has(p, r.labels()), looksForeign(labels))
		}
	}
}
