package engine

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// dies deletes a node whose kubelet has stopped permanently.
func (c *cluster) dies(node string) {
	c.mu.Lock()
	c.dead[node] = true
	c.mu.Unlock()
	c.removeNode(node)
}

// returns adds another node under its name, with a kubelet. That starts the pods that
// are bound to the name, including those from the time when there was no such node.
func (c *cluster) returns(node string) {
	c.mu.Lock()
	delete(c.dead, node)
	c.mu.Unlock()
	c.addNode(node)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.objects["pods"] {
		if p := o.(*corev1.Pod); p.Spec.NodeName == node && p.DeletionTimestamp == nil {
			c.kubelet(p)
		}
	}
}

func (c *cluster) hold(pod *corev1.Pod) {
	c.editPod(pod.Name, func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"} })
}

// live returns the pod on the node that is neither deleted nor ended, if there is
// exactly one.
func (c *cluster) live(node string) *corev1.Pod {
	c.t.Helper()
	var found *corev1.Pod
	for _, p := range c.pods() {
		if p.Spec.NodeName != node || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if found != nil {
			c.t.Errorf("%s has two live pods: %s and %s", node, found.Name, p.Name)
		}
		found = p
	}
	if found == nil {
		c.t.Errorf("%s has no live pod", node)
		return &corev1.Pod{}
	}
	return found
}

// A node that is deleted and comes back under its name gets a pod within seconds, life
// after life, although a finalizer keeps the pod of each of its lives, running or ended
// as far as the API server knows.
func TestReturnedNodeWithHeldPods(t *testing.T) {
	for name, end := range map[string]func(*corev1.Pod){
		"they run for all that is known": func(*corev1.Pod) {},
		"they have ended before":         func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(2)
				c.addSet()
				c.start()
				c.run(10 * time.Second)
				for life := range 10 {
					old := c.live("node-01")
					c.hold(old)
					c.dies("node-01")
					c.editPod(old.Name, end)
					c.run(time.Duration(life) * time.Second)
					c.returns("node-01")
					c.run(5 * time.Second)
					if p := c.live("node-01"); p.UID == old.UID || !isReady(p) {
						t.Errorf("life %d: the node has %s, before %s", life, p.Name, old.Name)
					}
					if s := c.set().Status; s.DesiredNumberScheduled != 2 || s.NumberAvailable != 2 {
						t.Errorf("life %d: %+v", life, s)
					}
				}
			})
		})
	}
}

// A policy refuses deletes of a pod without a grace period. The kubelet of the node
// that has come back takes the pod for its own; so the engine treats it as such.
func TestReturnedNodeWhosePodMayNotBeForced(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		old := c.live("node-01")
		c.admit(webhook{verb: "delete", resource: "pods", refuses: 403})
		c.dies("node-01")
		c.run(time.Minute)
		c.returns("node-01")
		c.run(2 * time.Minute)
		if p := c.live("node-01"); p.UID != old.UID {
			t.Errorf("the node has %s beside or instead of %s", p.Name, old.Name)
		}
		c.covered(2, "agent:1")
		c.admit()
		c.editSet(image("agent:2"))
		c.run(2 * time.Minute)
		c.covered(2, "agent:2")
	})
}

// While the outcome of the delete is not known, the node counts as one that should have
// a pod and has none, and no other pod is created.
func TestReturnedNodeWaitsForWhatIsLeft(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		old := c.live("node-01")
		c.admit(webhook{verb: "delete", resource: "pods", refuses: 500})
		c.dies("node-01")
		c.run(time.Second)
		c.returns("node-01")
		for range 30 {
			c.run(time.Second)
			if s := c.set().Status; s.DesiredNumberScheduled != 2 || s.NumberAvailable != 1 {
				t.Errorf("%+v", s)
			}
			if p := c.live("node-01"); p.UID != old.UID {
				t.Errorf("the node has %s beside %s", p.Name, old.Name)
			}
		}
		c.admit()
		c.run(2 * time.Minute)
		c.covered(2, "agent:1")
	})
}

// A pod that finalizers keep on a node that was never away does not block anything
// either, and a delete without a grace period that a finalizer outlasts does not make
// it gone: it has its name as long as it exists.
func TestHeldPodIsNotGone(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		var e *engine
		c.start(func(cfg *Config) {
			audit := cfg.decided
			cfg.decided = func(en *engine, set *setEntry, st *state) {
				c.mu.Lock()
				e = en
				c.mu.Unlock()
				audit(en, set, st)
			}
		})
		c.run(10 * time.Second)
		old := c.live("node-01")
		c.hold(old)
		c.stall("pods", true) // only the delete's answer shows what has happened
		c.dies("node-01")
		c.run(2 * time.Second)
		c.mu.Lock()
		known := e.index.pod(string(old.UID))
		c.mu.Unlock()
		if known == nil || !known.Forced {
			t.Errorf("after its delete without grace the pod is %+v to the engine", known)
		}
		c.stall("pods", false)
		c.returns("node-01")
		c.run(5 * time.Second)
		if p := c.live("node-01"); p.UID == old.UID {
			t.Error("the node has its old pod")
		}
	})
}

func surgeByOne(ds *appsv1.DaemonSet) {
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &one}
}

// However many pods finalizers keep on a node, another can be created: an update never
// takes a serving pod whose successor has no name.
func TestUpdatesBesideHeldPods(t *testing.T) {
	for _, surge := range []bool{false, true} {
		t.Run(fmt.Sprintf("surge %v", surge), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet(func(ds *appsv1.DaemonSet) {
					ds.Spec.Template.Finalizers = []string{"example.com/hold"}
					if surge {
						surgeByOne(ds)
					}
				})
				c.start()
				c.run(20 * time.Second)
				for i := range 14 {
					tag := fmt.Sprintf("agent:%d", i+2)
					c.editSet(image(tag))
					c.run(2 * time.Minute)
					if s := c.set().Status; s.UpdatedNumberScheduled != 3 || s.NumberAvailable != 3 {
						t.Errorf("%s: %+v with %d pods", tag, s, len(c.pods()))
					}
				}
			})
		})
	}
}

// A pod of ours that has a create's name, but is on another node, is not what the
// create was for: the node gets its pod under the next name.
func TestNameTakenOnAnotherNode(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		p := c.live("node-01").DeepCopy()
		c.stop()
		c.mu.Lock()
		c.store("pods", "DELETED", p.DeepCopy())
		moved := p.DeepCopy()
		moved.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, OwnerReferences: p.OwnerReferences,
			Finalizers: []string{"example.com/hold"}, DeletionTimestamp: new(c.now()), DeletionGracePeriodSeconds: new(int64)}
		moved.Spec.NodeName = "node-02"
		c.add("pods", moved)
		c.mu.Unlock()
		c.addNode("node-02")
		c.start()
		c.run(20 * time.Second)
		if got := c.live("node-01"); got.Name == p.Name || !isReady(got) {
			t.Errorf("node-01 has %s", got.Name)
		}
		c.live("node-02")
	})
}
