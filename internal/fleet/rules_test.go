package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestFailuresAsText(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Failures
		back string // how it is written; "": as it was read
	}{
		{"none", nil, ""},
		{"1%", Failures{{Crash, 0.01, ""}}, "crash:1%"},
		{"unready", Failures{{Unready, 1, ""}}, "unready:100%"},
		{"pull:12.5%", Failures{{Pull, 0.125, ""}}, ""},
		{"crash@busybox:1.36.1", Failures{{Crash, 1, "busybox:1.36.1"}}, "crash:100%@busybox:1.36.1"},
		{"unready:50%@example.com/*:2,1%", Failures{{Unready, 0.5, "example.com/*:2"}, {Crash, 0.01, ""}}, "unready:50%@example.com/*:2,crash:1%"},
		{"crash:1%@a@sha256:00", Failures{{Crash, 0.01, "a@sha256:00"}}, ""},
	} {
		var got Failures
		if err := got.UnmarshalText([]byte(tc.text)); err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if d := diff.Diff(tc.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", tc.text, d)
		}
		back, err := got.MarshalText()
		if want := cmp.Or(tc.back, tc.text); err != nil || string(back) != want {
			t.Errorf("%s is written as %s (%v), want %s", tc.text, back, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                "is not a mode of failure",
		"often":           `"often" is not a mode of failure`,
		"5":               `"5" is not a mode of failure`,
		"crash:5":         `"5" is not a percentage`,
		"crash:101%":      "is not a percentage from 0% to 100%",
		"crash:-1%":       "is not a percentage",
		"crash:NaN%":      "is not a percentage",
		"crash@[":         "syntax error in pattern",
		"1%,":             "is not a mode of failure",
		"unready:1%,x:1%": `"x" is not a mode of failure`,
	} {
		var got Failures
		err := got.UnmarshalText([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "give a share") {
			t.Errorf("%q: error %v, want one with %q that says what can be given", text, err, want)
		}
	}
}

// Rules survive being written as JSON and read back.
func TestRulesAsJSON(t *testing.T) {
	want := Rules{Start: time.Second, Stop: time.Minute, Jitter: 0.2, Fail: Failures{{Pull, 0.01, "a"}}, Seed: 7}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Rules
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(want, got); d != "" {
		t.Errorf("%s: -want +got\n%s", data, d)
	}
}

// daemonPod returns a DaemonSet's pod on a node.
func daemonPod(name, node, image string) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid of " + name), OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", UID: "set", Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: node, RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "agent", Image: image}}},
	}
}

func mustFate(t *testing.T, r Rules, pod *corev1.Pod, annotations map[string]string) fate {
	t.Helper()
	f, err := r.fate(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: pod.Spec.NodeName, Annotations: annotations}}, pod)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A pod's successor of the same revision has the same fate; another image, seed or node
// has another one.
func TestFateIsDrawnFromSeedSetNodeAndImages(t *testing.T) {
	const nodes = 10_000
	r := Rules{Start: 10 * time.Second, Ready: time.Second, Stop: time.Second, Jitter: 0.2, Fail: Failures{{Crash, 0.1, ""}, {Pull, 0.05, ""}}, Seed: 1}
	other := r
	other.Seed = 2
	counts, moved := map[Mode]int{}, map[string]int{}
	least, most := time.Hour, time.Duration(0)
	for i := range nodes {
		node := fmt.Sprintf("sim-%d", i)
		f := mustFate(t, r, daemonPod("agent-a", node, "v1"), nil)
		if again := mustFate(t, r, daemonPod("agent-b", node, "v1"), nil); again != f {
			t.Fatalf("%s: the successor's fate is %v, it was %v", node, again, f)
		}
		counts[f.failure]++
		least, most = min(least, f.start), max(most, f.start)
		if mustFate(t, r, daemonPod("agent-a", node, "v2"), nil).failure != f.failure {
			moved["image"]++
		}
		if mustFate(t, other, daemonPod("agent-a", node, "v1"), nil).failure != f.failure {
			moved["seed"]++
		}
	}
	if c := counts[Crash]; c < 900 || c > 1100 {
		t.Errorf("%d of %d pods crash, want about 1000", c, nodes)
	}
	if c := counts[Pull]; c < 400 || c > 600 {
		t.Errorf("%d of %d pods are not pulled, want about 500", c, nodes)
	}
	for what, n := range moved {
		if n < 1000 {
			t.Errorf("with another %s only %d pods of %d fare otherwise", what, n, nodes)
		}
	}
	if least < 8*time.Second || most > 12*time.Second || most-least < 3900*time.Millisecond {
		t.Errorf("starts take %s to %s, want nearly all of 8s to 12s", least, most)
	}
}

func TestAnnotationsComeBeforeRules(t *testing.T) {
	r := Rules{Start: 2 * time.Second, Ready: time.Second, Stop: time.Second, Fail: Failures{{Crash, 1, ""}}}
	onNode := map[string]string{AnnotationStart: "5s", AnnotationFail: "unready@v2", AnnotationStop: "0s"}
	pod := daemonPod("a", "sim-1", "v1")
	if got, want := mustFate(t, r, pod, onNode), (fate{start: 5 * time.Second, ready: time.Second}); got != want {
		t.Errorf("the node's annotations give %v, want %v", got, want)
	}
	if got := mustFate(t, r, daemonPod("a", "sim-1", "v2"), onNode).failure; got != Unready {
		t.Errorf("the image that the node is said to fail with: %q, want unready", got)
	}
	pod.Annotations = map[string]string{AnnotationStart: "9s", AnnotationFail: "pull"}
	if got, want := mustFate(t, r, pod, onNode), (fate{start: 9 * time.Second, ready: time.Second, failure: Pull}); got != want {
		t.Errorf("the pod's annotations give %v, want %v", got, want)
	}
	pod.Annotations = map[string]string{AnnotationStart: "soon", AnnotationReady: "-1s", AnnotationFail: "maybe"}
	f, err := r.fate(&corev1.Node{}, pod)
	if want := (fate{start: 2 * time.Second, ready: time.Second, stop: time.Second, failure: Crash}); f != want {
		t.Errorf("annotations that cannot be read give %v, want the rules: %v", f, want)
	}
	for _, want := range []string{AnnotationStart, AnnotationReady, "negative", AnnotationFail} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}
