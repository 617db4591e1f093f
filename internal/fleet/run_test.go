package fleet

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const testPort = 12345

// trial is a simulation with an in-memory API, on a clock that the test advances.
type trial struct {
	t      *testing.T
	client kubernetes.Interface
}

// simulation runs test in a synctest bubble, in which sim-1 is simulated and node-1 is not.
func simulation(t *testing.T, rules Rules, test func(trial)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		real := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "real"}}
		simulated := NewNode("sim-1", 0, netip.MustParsePrefix("10.42.255.0/24"))
		simulated.UID = "first"
		client := fake.NewClientset(real, simulated)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- simulate(ctx, client, rules, testPort, slog.New(slog.NewTextHandler(t.Output(), nil)))
		}()
		synctest.Wait()
		test(trial{t, client})
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the simulation ended with %v", err)
		}
	})
}

// pass lets time go by, so that everything due then is done.
func (w trial) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w trial) create(pod *corev1.Pod) {
	w.t.Helper()
	pod.Status.Phase = corev1.PodPending
	if _, err := w.client.CoreV1().Pods(pod.Namespace).Create(w.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w trial) pod(name string) *corev1.Pod {
	w.t.Helper()
	pod, err := w.client.CoreV1().Pods("default").Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return pod
}

func (w trial) change(pod *corev1.Pod) {
	w.t.Helper()
	if _, err := w.client.CoreV1().Pods("default").Update(w.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w trial) node(name string) *corev1.Node {
	w.t.Helper()
	node, err := w.client.CoreV1().Nodes().Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return node
}

func (w trial) annotate(name string, annotations map[string]string) {
	w.t.Helper()
	node := w.node(name)
	node.Annotations = annotations
	if _, err := w.client.CoreV1().Nodes().Update(w.t.Context(), node, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// want checks what kubectl would show of a pod.
func (w trial) want(name string, phase corev1.PodPhase, ready bool, waiting string, restartCount int32) {
	w.t.Helper()
	pod := w.pod(name)
	if pod.Status.Phase != phase || isReady(pod) != ready || waitingFor(pod) != waiting || restarts(pod) != restartCount {
		w.t.Errorf("%s is %s, ready %v, waits for %q, %d restarts; want %s, %v, %q, %d", name,
			pod.Status.Phase, isReady(pod), waitingFor(pod), restarts(pod), phase, ready, waiting, restartCount)
	}
}

// writes counts the requests that changed something since the last call.
func (w trial) writes(resource string) int {
	f, n := w.client.(*fake.Clientset), 0
	for _, a := range f.Actions() {
		if a.GetResource().Resource == resource && a.GetVerb() != "get" && a.GetVerb() != "list" && a.GetVerb() != "watch" {
			n++
		}
	}
	f.ClearActions()
	return n
}

var usual = Rules{Start: 2 * time.Second, Ready: time.Second, Stop: time.Second}

func TestPodStartsAndIsReadyAfterItsDelays(t *testing.T) {
	simulation(t, usual, func(w trial) {
		pod := daemonPod("a", "sim-1", "v1")
		always := corev1.ContainerRestartPolicyAlways
		pod.Spec.InitContainers = []corev1.Container{{Name: "setup"}, {Name: "beside", RestartPolicy: &always}}
		w.create(pod)
		w.pass(usual.Start - time.Millisecond)
		w.want("a", corev1.PodPending, false, "", 0)
		w.pass(time.Millisecond)
		w.want("a", corev1.PodRunning, false, "", 0)
		w.pass(usual.Ready - time.Millisecond)
		w.want("a", corev1.PodRunning, false, "", 0)
		started := w.pod("a").Status.ContainerStatuses[0].State.Running.StartedAt
		w.pass(time.Millisecond)
		w.want("a", corev1.PodRunning, true, "", 0)

		status := w.pod("a").Status
		ip, host := netip.MustParseAddr(status.PodIP), netip.MustParseAddr(status.HostIP)
		if reserved := netip.MustParsePrefix("240.0.0.0/4"); !reserved.Contains(ip) || !reserved.Contains(host) || ip == host {
			t.Errorf("the pod has the address %s on %s: want two of %s", ip, host, reserved)
		}
		if c := status.ContainerStatuses[0]; !c.Ready || !c.State.Running.StartedAt.Equal(&started) {
			t.Errorf("the container is not ready, or was started again: %+v", c)
		}
		if c := podCondition(w.pod("a"), corev1.PodReady); c.Reason != "" || !c.LastTransitionTime.Time.Equal(time.Now()) {
			t.Errorf("the Ready condition is %+v, want no reason, and since now", c)
		}
		if c := status.InitContainerStatuses; c[0].State.Terminated == nil || c[1].State.Running == nil {
			t.Errorf("of the init containers one should have ended and one run: %+v", c)
		}
		w.writes("pods")
		w.pass(time.Hour)
		if n := w.writes("pods"); n != 0 {
			t.Errorf("a pod that is ready was written %d times", n)
		}
	})
}

func TestPodOnTheHostNetworkHasItsNodesAddress(t *testing.T) {
	simulation(t, Rules{}, func(w trial) {
		pod := daemonPod("a", "sim-1", "v1")
		pod.Spec.HostNetwork = true
		w.create(pod)
		w.want("a", corev1.PodRunning, true, "", 0)
		for _, a := range w.node("sim-1").Status.Addresses {
			if a.Type == corev1.NodeExternalIP && w.pod("a").Status.PodIP == a.Address {
				return
			}
		}
		t.Errorf("pod address %s is not among the node's: %v", w.pod("a").Status.PodIP, w.node("sim-1").Status.Addresses)
	})
}

func TestPodStopsWithinItsGrace(t *testing.T) {
	for _, tc := range []struct {
		grace   int64
		running bool
		want    time.Duration
	}{{30, true, 5 * time.Second}, {2, true, 2 * time.Second}, {30, false, 0}} {
		rules := Rules{Start: time.Minute, Stop: 5 * time.Second}
		simulation(t, rules, func(w trial) {
			w.create(daemonPod("a", "sim-1", "v1"))
			if tc.running {
				w.pass(rules.Start)
			}
			pod, now := w.pod("a"), metav1.Now()
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &tc.grace
			w.change(pod)
			gone := func() bool {
				_, err := w.client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
				return apierrors.IsNotFound(err)
			}
			if tc.want > 0 {
				w.pass(tc.want - time.Millisecond)
				if gone() {
					t.Errorf("grace %d s: gone before %s", tc.grace, tc.want)
				}
				w.pass(time.Millisecond)
			}
			if !gone() {
				t.Errorf("grace %d s, running %v: still there after %s", tc.grace, tc.running, tc.want)
			}
		})
	}
}

// A pod crashes at longer and longer intervals, and recovers when its node does.
func TestPodCrashesUntilItsNodeIsMended(t *testing.T) {
	simulation(t, usual, func(w trial) {
		w.annotate("sim-1", map[string]string{AnnotationFail: "crash@v2"})
		w.create(daemonPod("good", "sim-1", "v1"))
		w.create(daemonPod("bad", "sim-1", "v2"))
		w.pass(2 * time.Second)
		w.want("bad", corev1.PodRunning, false, "", 0)
		w.pass(time.Second)
		w.want("bad", corev1.PodRunning, false, reasonCrash, 1)
		w.want("good", corev1.PodRunning, true, "", 0)
		since := podCondition(w.pod("bad"), corev1.PodReady).LastTransitionTime
		for i, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			w.pass(wait*time.Second + usual.Ready - time.Millisecond)
			w.want("bad", corev1.PodRunning, false, reasonCrash, int32(i+1))
			w.pass(time.Millisecond)
			w.want("bad", corev1.PodRunning, false, reasonCrash, int32(i+2))
		}
		if now := podCondition(w.pod("bad"), corev1.PodReady).LastTransitionTime; !now.Equal(&since) {
			t.Errorf("not ready since %s, and it was since %s", now, since)
		}
		w.annotate("sim-1", nil)
		w.pass(time.Second)
		w.want("bad", corev1.PodRunning, true, "", 8)
		// A running pod keeps running.
		w.annotate("sim-1", map[string]string{AnnotationFail: "crash"})
		w.pass(time.Hour)
		w.want("bad", corev1.PodRunning, true, "", 8)
		w.want("good", corev1.PodRunning, true, "", 0)
	})
}

func TestOtherWaysToFailAndToEnd(t *testing.T) {
	for _, tc := range []struct {
		fail    string
		restart corev1.RestartPolicy
		phase   corev1.PodPhase
		waiting string
	}{
		{"pull", corev1.RestartPolicyAlways, corev1.PodPending, reasonPull},
		{"unready", corev1.RestartPolicyAlways, corev1.PodRunning, ""},
		{"none", corev1.RestartPolicyNever, corev1.PodSucceeded, ""},
		{"none", corev1.RestartPolicyOnFailure, corev1.PodSucceeded, ""},
		{"crash", corev1.RestartPolicyNever, corev1.PodFailed, ""},
	} {
		simulation(t, usual, func(w trial) {
			pod := daemonPod("a", "sim-1", "v1")
			pod.Spec.RestartPolicy, pod.Annotations = tc.restart, map[string]string{AnnotationFail: tc.fail}
			w.create(pod)
			w.pass(usual.Start + usual.Ready)
			w.want("a", tc.phase, false, tc.waiting, 0)
			w.writes("pods")
			w.pass(time.Hour)
			if n := w.writes("pods"); n != 0 {
				t.Errorf("%s, restart %s: %d writes after the end", tc.fail, tc.restart, n)
			}
		})
	}
}

// The node lifecycle controller sets the pods of a lost node to not ready; when the node is back they become ready again.
func TestSilentNodeComesBack(t *testing.T) {
	simulation(t, usual, func(w trial) {
		w.create(daemonPod("a", "sim-1", "v1"))
		w.pass(3 * time.Second)
		w.annotate("sim-1", map[string]string{AnnotationOff: "true"})
		w.pass(time.Minute) // renewals under way
		w.writes("leases")
		w.create(daemonPod("late", "sim-1", "v1"))
		w.pass(time.Hour)
		if n := w.writes("leases"); n != 0 {
			t.Errorf("a node without power renewed its lease %d times", n)
		}
		w.want("late", corev1.PodPending, false, "", 0)

		node := w.node("sim-1")
		nodeCondition(node, corev1.NodeReady).Status = corev1.ConditionUnknown
		if _, err := w.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		pod := w.pod("a")
		podCondition(pod, corev1.PodReady).Status = corev1.ConditionFalse
		w.change(pod)
		w.pass(time.Minute)
		if Ready(w.node("sim-1")) {
			t.Error("a node without power says that it is Ready")
		}
		w.want("a", corev1.PodRunning, false, "", 0)

		w.annotate("sim-1", nil)
		w.pass(3 * time.Second)
		if !Ready(w.node("sim-1")) {
			t.Error("the node has its power back and is not Ready")
		}
		w.want("a", corev1.PodRunning, true, "", 0)
		w.want("late", corev1.PodRunning, true, "", 0)
		if n := w.writes("leases"); n == 0 {
			t.Error("the node has its power back and renews no lease")
		}
	})
}

func TestIdleNodeCostsLittle(t *testing.T) {
	simulation(t, usual, func(w trial) {
		if node := w.node("sim-1"); !Ready(node) || node.Status.DaemonEndpoints.KubeletEndpoint.Port != testPort || node.Status.Allocatable.Pods().Value() != 110 {
			t.Errorf("the node's status is %+v", node.Status)
		}
		w.writes("leases")
		w.pass(25 * time.Minute)
		f := w.client.(*fake.Clientset)
		last := time.Time{}
		for _, a := range f.Actions() {
			if update, ok := a.(clienttesting.UpdateAction); ok && a.GetResource().Resource == "leases" {
				renewed := update.GetObject().(*coordinationv1.Lease).Spec.RenewTime.Time
				if gap := renewed.Sub(last); !last.IsZero() && (gap > leaseEvery || gap < leaseEvery/2) {
					t.Errorf("the lease was renewed after %s", gap)
				}
				last = renewed
			}
		}
		if n := w.writes("nodes"); n != 0 || time.Since(last) > leaseEvery {
			t.Errorf("%d writes of the Node in 25 minutes, and the last lease %s ago", n, time.Since(last))
		}
		w.pass(10 * time.Minute)
		if n := w.writes("nodes"); n != 1 {
			t.Errorf("the Node's status was written %d times in another 10 minutes, want once", n)
		}
	})
}

// Pods of real nodes belong to their kubelets.
func TestRealNodesAreLeftAlone(t *testing.T) {
	simulation(t, usual, func(w trial) {
		w.create(daemonPod("a", "node-1", "v1"))
		w.pass(time.Hour)
		w.want("a", corev1.PodPending, false, "", 0)
		if n := len(w.node("node-1").Status.Conditions); n != 0 {
			t.Errorf("a real node was given %d conditions", n)
		}
		if _, err := w.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), "node-1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a real node was given a lease (%v)", err)
		}
	})
}

func TestKubeletSaysWhyThereIsNothing(t *testing.T) {
	for path, want := range map[string]string{
		"/containerLogs/default/agent-x/agent?follow=true": "pod default/agent-x is on a simulated node",
		"/exec/default/agent-x/agent":                      "pod default/agent-x is on a simulated node",
		"/portForward/default/agent-x":                     "pod default/agent-x is on a simulated node",
		"/stats/summary":                                   "this node is simulated",
	} {
		w := httptest.NewRecorder()
		handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code < 400 || w.Code >= 500 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %q", path, w.Code, w.Body, want)
		}
	}
}

// When the images of a pod are changed in place, the containers with a new image start again, and the pod becomes ready after
// the same delay as at first.
func TestPodIsChangedWhereItRuns(t *testing.T) {
	simulation(t, usual, func(w trial) {
		pod := daemonPod("a", "sim-1", "v1")
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "beside", Image: "same"})
		w.create(pod)
		w.pass(time.Minute)
		w.want("a", corev1.PodRunning, true, "", 0)
		before := w.pod("a").Status.ContainerStatuses
		change := func(image string) {
			p := w.pod("a").DeepCopy()
			p.Spec.Containers[0].Image = image
			p.Generation++
			w.change(p)
		}
		change("v2")
		w.pass(usual.Stop + usual.Start - time.Millisecond)
		w.want("a", corev1.PodRunning, true, "", 0)
		w.pass(time.Millisecond)
		w.want("a", corev1.PodRunning, false, "", 1)
		w.pass(usual.Ready)
		w.want("a", corev1.PodRunning, true, "", 1)
		after := w.pod("a").Status
		if c := after.ContainerStatuses; c[0].ContainerID == before[0].ContainerID || c[0].ImageID == before[0].ImageID || c[1].ContainerID != before[1].ContainerID || c[1].RestartCount != 0 {
			t.Errorf("the containers were %+v\nand are %+v", before, c)
		}
		if after.ObservedGeneration != w.pod("a").Generation {
			t.Errorf("the status is of generation %d, and the pod of %d", after.ObservedGeneration, w.pod("a").Generation)
		}
		w.writes("pods")
		w.pass(time.Hour)
		if n := w.writes("pods"); n != 0 {
			t.Errorf("a pod that is ready was written %d times", n)
		}
	})
}

// A change to an image that cannot be pulled ends the old container, and changing it back starts a new one.
func TestPodIsChangedToABadImage(t *testing.T) {
	rules := usual
	rules.Fail = Failures{{Mode: Pull, Share: 1, Image: "bad"}}
	simulation(t, rules, func(w trial) {
		w.create(daemonPod("a", "sim-1", "v1"))
		w.pass(time.Minute)
		change := func(image string) {
			p := w.pod("a").DeepCopy()
			p.Spec.Containers[0].Image = image
			p.Generation++
			w.change(p)
		}
		change("bad")
		w.pass(time.Minute)
		w.want("a", corev1.PodRunning, false, reasonPull, 0)
		change("v1")
		w.pass(time.Minute)
		w.want("a", corev1.PodRunning, true, "", 1)
	})
}
