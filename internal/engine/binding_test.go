package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	validation "k8s.io/apimachinery/pkg/util/validation/field"

	"everynode/internal/view"
)

// onNode filters a list of pods by the field selector.
func onNode(list runtime.Object, selector string) runtime.Object {
	node, asked := strings.CutPrefix(selector, "spec.nodeName=")
	pods, ok := list.(*corev1.PodList)
	if !ok || !asked {
		return list
	}
	all := pods.Items
	pods.Items = nil
	for _, p := range all {
		if p.Spec.NodeName == node {
			pods.Items = append(pods.Items, p)
		}
	}
	return pods
}

// refusals are the reasons why the kubelets of nodes refuse pods, by the name of the
// node.
type refusals map[string]string

// refuse makes these kubelets refuse pods that are bound to them, and adds a scheduler
// that binds pods to the other nodes.
func (c *cluster) refuse(on refusals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inner := c.after
	c.after = func(p *corev1.Pod) {
		why := on[view.TargetNode(p)]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodPending:
			inner(p)
		case p.Spec.NodeName == "" && why == "":
			time.AfterFunc(time.Second, func() { c.bind(p.Name) })
		case p.Spec.NodeName != "" && why != "":
			time.AfterFunc(time.Second, func() {
				c.editPod(p.Name, func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, why })
			})
		default:
			inner(p)
		}
	}
}

// bind is the last step of the scheduler.
func (c *cluster) bind(name string) {
	c.editPod(name, func(p *corev1.Pod) { p.Spec.NodeName = view.TargetNode(p) })
}

// relent ends the refusals of a node, so that the scheduler binds the pods that wait.
func (c *cluster) relent(on refusals, node string) {
	c.mu.Lock()
	delete(on, node)
	c.mu.Unlock()
	for _, p := range c.pods() {
		if p.Spec.NodeName == "" && view.TargetNode(p) == node {
			c.bind(p.Name)
		}
	}
}

// waiting returns the DaemonSet's only pod for the node, which must be waiting to be
// bound to it.
func (c *cluster) waiting(node string) *corev1.Pod {
	c.t.Helper()
	var found *corev1.Pod
	for _, p := range c.pods() {
		if view.TargetNode(p) != node || metav1.GetControllerOf(p) == nil {
			continue
		}
		if found != nil || p.Spec.NodeName != "" {
			c.t.Fatalf("%s has more than one pod that waits: %s, bound to %q", node, p.Name, p.Spec.NodeName)
		}
		found = p
	}
	if found == nil {
		c.t.Fatalf("no pod waits for %s", node)
	}
	return found
}

// made returns how many pods were created, and how many of them bound to the node.
func (c *cluster) made(node string) (all, bound int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.creates {
		if strings.HasSuffix(line, " on "+node) {
			bound++
		}
	}
	return len(c.creates), bound
}

// A pod that the kubelet refuses is created once more, for the scheduler, and waits for
// as long as it takes: through updates, with and without surge, and through a change of
// leaders. When the node accepts it, nobody has to do anything.
func TestOneRefusedPodThenOneThatWaits(t *testing.T) {
	for _, surge := range []bool{false, true} {
		for _, reason := range []string{"NodePorts", "NodeAffinity", "OutOfcpu", "UnexpectedAdmissionError", "TopologyAffinityError"} {
			t.Run(fmt.Sprintf("%s surge=%v", reason, surge), func(t *testing.T) {
				inCluster(t, func(c *cluster) { oneWaits(c, reason, surge) })
			})
		}
	}
}

func oneWaits(c *cluster, reason string, surge bool) {
	on := refusals{"node-02": reason}
	c.refuse(on)
	c.addNodes(3)
	c.addSet(func(ds *appsv1.DaemonSet) {
		if surge {
			u := ds.Spec.UpdateStrategy.RollingUpdate
			u.MaxSurge, u.MaxUnavailable = u.MaxUnavailable, nil
		}
	})
	c.start()
	c.run(time.Minute)
	first := c.waiting("node-02")
	c.run(5 * time.Hour)
	if all, bound := c.made("node-02"); all != 4 || bound != 1 || c.waiting("node-02").UID != first.UID {
		c.t.Errorf("%d pods were made, %d bound to the node that refuses them", all, bound)
	}
	c.stop()
	c.start() // its memory is empty
	c.run(time.Hour)
	for n := 2; n <= 4; n++ {
		c.editSet(image(fmt.Sprintf("agent:%d", n)))
		c.run(time.Hour)
	}
	if p := c.waiting("node-02"); p.Spec.Containers[0].Image != "agent:4" {
		c.t.Errorf("the pod that waits is of %s", p.Spec.Containers[0].Image)
	}
	if _, bound := c.made("node-02"); bound != 1 {
		c.t.Errorf("%d pods were bound to the node that refuses them", bound)
	}
	quiet := c.countWrites()
	c.relent(on, "node-02")
	c.run(time.Minute)
	c.covered(3, "agent:4")
	if n := c.countWrites() - quiet - c.wrote("update daemonsets"); n > 0 {
		c.t.Errorf("%d writes were needed when the node took the pod", n)
	}
	c.editSet(image("agent:5"))
	c.run(5 * time.Minute)
	c.covered(3, "agent:5")
	if _, bound := c.made("node-02"); bound != 2 {
		c.t.Errorf("the node was not given back: %d pods were bound to it when they were made", bound)
	}
}

// A refusal that no decision about the place could have avoided is a failure like
// others: it backs off, and the scheduler is not involved.
func TestRefusedForGoodBacksOff(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.refuse(refusals{"node-01": "SysctlForbidden"})
		c.addNodes(1)
		c.addSet()
		c.start()
		c.run(time.Hour)
		if all, bound := c.made("node-01"); all != bound || all < 8 || all > 15 {
			t.Errorf("%d pods in an hour, %d of them bound", all, bound)
		}
		c.podOn("node-01")
	})
}

// If a pod waits for a host port, an event says which port it is, and which pod uses
// it. For a pod on its node's network every container port is a host port, though the
// stored template does not say so; and no kubelet gets a pod only to refuse it.
func TestHostPortIsNamed(t *testing.T) {
	for name, template := range map[string]func(*corev1.PodSpec){
		"host port": func(s *corev1.PodSpec) {
			s.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 9101}, {HostPort: 9100}}
		},
		"host network": func(s *corev1.PodSpec) {
			s.HostNetwork, s.Containers[0].Ports = true, []corev1.ContainerPort{{ContainerPort: 9101}, {ContainerPort: 9100}}
		},
	} {
		t.Run(name, func(t *testing.T) { hostPortIsNamed(t, template) })
	}
}

func hostPortIsNamed(t *testing.T, template func(*corev1.PodSpec)) {
	inCluster(t, func(c *cluster) {
		on := refusals{"node-01": "NodePorts"}
		c.addNodes(2)
		c.mu.Lock()
		c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "stray"}, Spec: corev1.PodSpec{NodeName: "node-01",
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 9100, Protocol: corev1.ProtocolTCP}}}}}})
		c.mu.Unlock()
		c.refuse(on)
		c.addSet(func(ds *appsv1.DaemonSet) {
			template(&ds.Spec.Template.Spec)
		})
		c.start()
		c.run(time.Minute)
		name := c.waiting("node-01").Name
		if _, bound := c.made("node-01"); bound != 1 {
			t.Errorf("%d pods were bound for the kubelet to refuse", bound-1) // the stray pod is counted, too
		}
		want := "Warning HostPortTaken: Waits on node node-01 for host port 9100/TCP, which pod default/stray has"
		alike := "Warning HostPortTaken: Pod " + name + " waits on node node-01 for host port 9100/TCP, which pod default/stray has"
		if got := c.events("HostPortTaken"); len(got) != 2 || got[1] != want || got[0] != alike {
			t.Errorf("events: %q", got)
		}
	})
}

// Changes of a runtime class are followed: from when it restricts the nodes, and while
// it is unknown, the pods are left to the scheduler. Running pods are not touched.
func TestRuntimeClassIsFollowed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "vm"}, Handler: "runc"}
		c.mu.Lock()
		c.add(runtimeClasses, class)
		c.mu.Unlock()
		c.refuse(refusals{})
		c.addNodes(1)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.RuntimeClassName = &class.Name })
		c.start()
		c.run(time.Minute)
		joins := func(name string, bound int) {
			t.Helper()
			c.run(time.Second) // either of the two watches may be served first
			writes := c.wrote("create pods")
			c.addNode(name)
			c.run(time.Minute)
			if _, got := c.made(name); got != bound || c.wrote("create pods") != writes+1 {
				t.Errorf("%s: %d pods were bound when they were made, want %d", name, got, bound)
			}
		}
		joins("node-02", 1)
		edit(c, runtimeClasses, "vm", func(rc *nodev1.RuntimeClass) {
			rc.Scheduling = &nodev1.Scheduling{NodeSelector: map[string]string{"kvm": "yes"}}
		})
		joins("node-03", 0)
		edit(c, runtimeClasses, "vm", func(rc *nodev1.RuntimeClass) { rc.Scheduling = nil })
		joins("node-04", 1)
		c.mu.Lock()
		c.store(runtimeClasses, "DELETED", c.objects[runtimeClasses]["vm"].DeepCopyObject())
		c.mu.Unlock()
		joins("node-05", 0)
		c.covered(5, "agent:1")
	})
}

// Without the permission to read runtime classes the scheduler gets their pods, and
// everything else goes on: the engine stays ready, and does not ask again and again.
func TestRuntimeClassesNeedNotBeReadable(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var asked atomic.Int32
		c.deny("list runtimeclasses", "watch runtimeclasses")
		c.intercept(func(r request) (error, bool) {
			if r.resource == runtimeClasses {
				if asked.Add(1); r.verb == "watch" {
					return apierrors.NewForbidden(schema.GroupResource{Resource: runtimeClasses}, "", nil), false
				}
			}
			return nil, false
		})
		c.refuse(refusals{})
		c.addNodes(2)
		vm := "vm"
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.RuntimeClassName = &vm })
		m := NewMonitor()
		c.start(func(cfg *Config) { cfg.Monitor = m })
		c.run(time.Minute)
		c.covered(2, "agent:1")
		if _, bound := c.made("node-01"); bound != 0 {
			t.Error("a pod of a class that cannot be read was bound")
		}
		asked.Store(0)
		before := c.countWrites()
		c.run(time.Hour)
		if err := m.Ready(); err != nil || asked.Load() > 240 || c.countWrites() != before {
			t.Errorf("ready: %v; asked %d times in an hour, with %d writes", err, asked.Load(), c.countWrites()-before)
		}
	})
}

// The annotation hands a DaemonSet to the scheduler and takes it back without touching
// running pods; an invalid value is reported once.
func TestBindByAnnotation(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.refuse(refusals{})
		c.addNodes(2)
		c.addSet()
		c.start()
		c.run(time.Minute)
		before := c.countWrites()
		for _, by := range []string{"scheduler", "schedular", "schedular ", "engine"} {
			c.editSet(func(ds *appsv1.DaemonSet) {
				ds.Annotations = map[string]string{view.BindByAnnotation: strings.TrimSpace(by), "note": by}
			})
			c.run(time.Minute)
			name := "node-for-" + strings.TrimSpace(by)
			if strings.HasSuffix(by, " ") {
				continue
			}
			c.addNode(name)
			c.run(time.Minute)
			want := map[bool]int{true: 1}[by == "engine"]
			if _, bound := c.made(name); bound != want {
				t.Errorf("%q: %d pods were bound when they were made, want %d", by, bound, want)
			}
		}
		c.covered(5, "agent:1")
		if n := c.wrote("create pods"); n != 5 || c.wrote("delete pods") != 0 {
			t.Errorf("%d pods were made and %d deleted", n, c.wrote("delete pods"))
		}
		want := `Warning InvalidBindBy: annotation everynode.io/bind-by: "schedular" is neither "engine" nor "scheduler"; the scheduler binds the pods`
		if got := c.events("InvalidBindBy"); len(got) != 1 || got[0] != want {
			t.Errorf("events: %q (%d writes)", got, c.countWrites()-before)
		}
	})
}

// The setting of the whole engine does the same, and an invalid value stops the engine.
func TestBindByScheduler(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.refuse(refusals{})
		c.addNodes(3)
		c.addSet()
		c.start(func(cfg *Config) { cfg.BindBy = view.ByScheduler })
		c.run(time.Minute)
		c.covered(3, "agent:1")
		if all, bound := c.made("node-01"); all != 3 || bound != 0 {
			t.Errorf("%d pods, %d bound when they were made", all, bound)
		}
	})
	if _, err := (Config{Client: newFakeAPI().config(), BindBy: "kubelet"}).withDefaults(); err == nil || !strings.Contains(err.Error(), `"kubelet" is neither`) {
		t.Errorf("a binder that there is not: %v", err)
	}
}

// gate makes admission add a scheduling gate to pods, which is invalid for pods that
// name their node.
func (c *cluster) gate(refused *atomic.Int32) {
	c.intercept(func(r request) (error, bool) {
		if !r.is("create", "pods") {
			return nil, false
		}
		if p := decode(r.body).(*corev1.Pod); p.Spec.NodeName != "" {
			refused.Add(1)
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, p.Name, validation.ErrorList{
				validation.Forbidden(validation.NewPath("spec", "nodeName"), "cannot be set until all schedulingGates have been cleared")}), false
		}
		return nil, false
	})
}

// With clocks that are ten minutes apart a node is handed to the scheduler after one
// pod that could not be created, beside the old pod of an update, and comes back with
// the first pod that is bound there.
func TestGateWithClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.ahead = ahead
				c.refuse(refusals{})
				c.addNodes(2)
				c.addSet(surge(1))
				c.start()
				c.run(time.Minute)
				var refused atomic.Int32
				c.gate(&refused)
				c.editSet(image("agent:2"))
				c.run(time.Minute)
				c.covered(2, "agent:2")
				if n := refused.Load(); n != 2 {
					t.Errorf("%d pods could not be made, want one for each node", n)
				}
				c.intercept(nil)
				c.editSet(image("agent:3"))
				c.run(time.Minute)
				c.covered(2, "agent:3")
				if _, bound := c.made("node-01"); bound != 2 {
					t.Errorf("%d pods were bound to the node when they were made, want the first and the last", bound)
				}
			})
		})
	}
}

// Admission that adds a scheduling gate makes a pod that names its node invalid: the
// next try leaves the node to the scheduler.
func TestGateFromAdmission(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.refuse(refusals{})
		c.gate(new(atomic.Int32))
		c.addNodes(3)
		c.addSet()
		c.start()
		c.run(time.Minute)
		c.covered(3, "agent:1")
		if got := c.events("FailedCreate"); len(got) != 3 {
			t.Errorf("events: %q", got)
		}
	})
}
