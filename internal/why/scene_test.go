package why

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// A scene says what Ask says: everything but the events at once, and with the events
// the same.
func TestSceneSaysWhatAskSays(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"n-10", "n-2", "n-1", "n-3", "n-4"} {
		w.node(name)
	}
	w.nodes[4].Status.Conditions[0].Status, w.nodes[4].Status.Conditions[0].Message = corev1.ConditionFalse, "it is silent"
	w.pod("n-10", down(crashes()))
	w.pod("n-2", outdated)
	w.pod("n-1")
	w.pod("n-3", down(creating()))
	w.pod("n-4", down(creating()))
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "e"}, Type: corev1.EventTypeWarning,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", UID: "pod-n-3"}, Reason: "FailedMount", Message: "no disk", LastTimestamp: metav1.NewTime(testNow())}
	w.others = append(w.others, event)
	want, _ := w.ask(t, aboutAgent())

	var nodes []plan.Node
	silent := map[string]string{}
	for i := range w.nodes {
		n := view.Node(&w.nodes[i])
		if nodes = append(nodes, n); !n.Ready {
			silent[n.Name] = SaidOfNode(&w.nodes[i])
		}
	}
	var pods []*corev1.Pod
	for i := range w.pods {
		pods = append(pods, &w.pods[i])
	}
	s := NewScene(w.ds, nodes, silent, pods, nil)
	rows, err := s.Rows(testNow())
	if err != nil {
		t.Fatal(err)
	}
	if got := reasons(&Answer{Rows: rows}); !slices.Equal(got, reasons(want)) || s.Revision() != w.hash {
		t.Errorf("%v of revision %s, want %v of %s", got, s.Revision(), reasons(want), w.hash)
	}
	if err := s.Explain(context.Background(), fake.NewClientset(event), rows, testNow()); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if got, want := rows[i].Node+" "+rows[i].Detail, want.Rows[i].Node+" "+want.Rows[i].Detail; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, r := range rows {
		if r.Available != (r.Node == "n-1" || r.Node == "n-2") || r.Updated != (r.Node != "n-2") || !r.Desired {
			t.Errorf("%+v", r)
		}
	}
}
