package fleet

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The former names, as they are in people's manifests and on objects that older versions have made.
const (
	oldLabel = "everynode.dev/simulated"
	oldStart = "everynode.dev/simulate-start"
	oldFail  = "everynode.dev/simulate-fail"
	oldOff   = "everynode.dev/simulate-off"
)

func TestFormerAnnotationsAreUnderstood(t *testing.T) {
	r := Rules{Start: 2 * time.Second, Ready: time.Second}
	onNode := map[string]string{oldStart: "5s", oldFail: "unready"}
	pod := daemonPod("a", "sim-1", "v1")
	if got, want := mustFate(t, r, pod, onNode), (fate{start: 5 * time.Second, ready: time.Second, failure: Unready}); got != want {
		t.Errorf("the node's former annotations give %v, want %v", got, want)
	}
	pod.Annotations = map[string]string{oldStart: "9s"}
	if got := mustFate(t, r, pod, map[string]string{AnnotationStart: "5s"}).start; got != 9*time.Second {
		t.Errorf("the pod's former annotation gives a start after %s; it comes before the node's", got)
	}
	pod.Annotations[AnnotationStart] = "1s"
	if got := mustFate(t, r, pod, onNode).start; got != time.Second {
		t.Errorf("both names on a pod give a start after %s; the present one wins", got)
	}
}

// A trial that somebody has recorded with its seed has the same fates as before.
func TestLuckIsThatOfTheFormerNames(t *testing.T) {
	r := Rules{Start: time.Minute, Jitter: 0.5, Seed: 7}
	pod := daemonPod("a", "sim-1", "v1")
	want := time.Minute + time.Duration(float64(time.Minute)*0.5*(2*r.draw(oldStart, pod)-1))
	if got := mustFate(t, r, pod, nil).start; got != want {
		t.Errorf("the start is after %s, and was after %s", got, want)
	}
}

func (w trial) addNode(name string, labels, annotations map[string]string) {
	w.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: labels, Annotations: annotations}}
	if _, err := w.client.CoreV1().Nodes().Create(w.t.Context(), node, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// formerNames returns the objects that were reported, as KIND NAME, in order.
func (w trial) formerNames() (about []string) {
	w.t.Helper()
	w.pass(time.Second)
	list, err := w.client.CoreV1().Events("").List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Reason != "FormerName" || !strings.Contains(e.Message, "everynode.dev/") || !strings.Contains(e.Message, "everynode.io/") {
			w.t.Errorf("event %s: %s", e.Reason, e.Message)
		}
		about = append(about, e.InvolvedObject.Kind+" "+e.InvolvedObject.Name)
	}
	slices.Sort(about)
	return about
}

func TestFormerLabelIsUnderstood(t *testing.T) {
	simulation(t, usual, func(w trial) {
		if told := w.formerNames(); len(told) > 0 {
			t.Errorf("told of %s, though our own nodes have the present label", told)
		}
		w.addNode("old-1", map[string]string{oldLabel: "true"}, nil)
		w.addNode("old-2", map[string]string{oldLabel: "true"}, nil)
		w.addNode("new", map[string]string{LabelSimulated: "true"}, nil)
		w.addNode("not", map[string]string{LabelSimulated: "false", oldLabel: "true"}, nil)
		w.pass(time.Second)
		for name, want := range map[string]bool{"old-1": true, "old-2": true, "new": true, "sim-1": true, "not": false, "node-1": false} {
			if got := Ready(w.node(name)); got != want {
				t.Errorf("node %s is Ready: %v, want %v", name, got, want)
			}
		}
		if told := w.formerNames(); len(told) != 1 || !strings.HasPrefix(told[0], "Node old-") {
			t.Errorf("told of %s, want one of the Nodes with the former label", told)
		}
	})
}

// A node that gets the label is simulated from then on, and one that loses it no longer is.
func TestLabelComesAndGoes(t *testing.T) {
	simulation(t, usual, func(w trial) {
		label := func(name string, labels map[string]string) {
			node := w.node(name)
			node.Labels = labels
			if _, err := w.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		label("node-1", map[string]string{LabelSimulated: "true"})
		label("sim-1", nil)
		w.pass(time.Minute)
		if !Ready(w.node("node-1")) {
			t.Error("a node that got the label is not Ready")
		}
		w.writes("leases")
		label("node-1", nil)
		w.pass(time.Hour)
		if n := w.writes("leases"); n != 0 {
			t.Errorf("%d renewals for nodes without the label", n)
		}
	})
}

func TestFormerAnnotationsAreTold(t *testing.T) {
	simulation(t, usual, func(w trial) {
		for _, name := range []string{"a", "b"} { // of one DaemonSet
			pod := daemonPod(name, "sim-1", "v1")
			pod.Annotations = map[string]string{oldFail: "crash"}
			w.create(pod)
		}
		present := daemonPod("c", "sim-1", "v1")
		present.OwnerReferences[0].UID, present.Annotations = "other", map[string]string{AnnotationFail: "none", oldFail: "crash"}
		w.create(present)
		w.pass(3 * time.Second)
		w.want("a", corev1.PodRunning, false, reasonCrash, 1)
		w.want("c", corev1.PodRunning, true, "", 0)
		if told := w.formerNames(); len(told) != 1 || told[0] != "Pod a" && told[0] != "Pod b" {
			t.Errorf("told of %s, want one pod of the DaemonSet", told)
		}
		w.annotate("sim-1", map[string]string{oldStart: "1s"})
		if told := w.formerNames(); len(told) != 2 || told[0] != "Node sim-1" {
			t.Errorf("told of %s, want the Node as well", told)
		}
	})
}

// A node that an older version has switched off is off, and can be woken up.
func TestFormerOff(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{oldOff: "true"}}}
	if !Off(node) {
		t.Error("the former annotation does not switch a node off")
	}
	for _, off := range []bool{true, false, true} {
		patch, err := json.Marshal(SetOff(off))
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]*string
		if err := json.Unmarshal(patch, &values); err != nil {
			t.Fatal(err)
		}
		for name, value := range values { // as a merge patch
			if delete(node.Annotations, name); value != nil {
				node.Annotations[name] = *value
			}
		}
		if Off(node) != off {
			t.Errorf("after SetOff(%v) the annotations are %v", off, node.Annotations)
		}
	}
	if _, left := node.Annotations[oldOff]; left {
		t.Error("the former annotation is left")
	}
}
