package why

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"everynode/internal/view"
)

// What the engine has reported about a node counts where the plan would write, and for
// as long as it can be true.
func TestWhyHearsTheEngine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	denied := errors.New("denied by policy")
	for what, c := range map[string]struct {
		told             string
		ago              time.Duration
		creates, deletes bool
		want, detail     string
		claims           bool
	}{
		"a create was refused":             {view.RefusedText(view.RefusedCreate, "n", denied), time.Minute, true, false, "WriteFailed", "create: denied by policy", false},
		"a delete was refused":             {view.RefusedText(view.RefusedDelete, "n", denied), time.Minute, false, true, "WriteFailed", "delete: denied by policy", false},
		"a pod cannot be adopted":          {view.RefusedText(view.RefusedClaim, "n", denied), time.Minute, true, false, "WriteFailed", "claim: denied by policy", true},
		"it could not, and is by now":      {view.RefusedText(view.RefusedClaim, "n", denied), time.Minute, true, false, "planned", "", false},
		"long ago":                         {view.RefusedText(view.RefusedCreate, "n", denied), time.Hour, true, false, "planned", "", false},
		"elsewhere":                        {view.RefusedText(view.RefusedCreate, "m", denied), time.Minute, true, false, "planned", "", false},
		"a create was, and is there":       {view.RefusedText(view.RefusedCreate, "n", denied), time.Minute, false, false, "planned", "", false},
		"a delete was, now it is a create": {view.RefusedText(view.RefusedDelete, "n", denied), time.Minute, true, false, "planned", "", false},
		"pods do not last":                 {view.NotLastText("n", 4, "by the taint manager", 2*time.Minute), time.Minute, true, false, "PodsDoNotLast", "by the taint manager", false},
		"the pause is over":                {view.NotLastText("n", 4, "", time.Minute), 2 * time.Minute, true, false, "planned", "", false},
	} {
		t.Run(what, func(t *testing.T) {
			ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent", UID: "1"}}
			client := fake.NewClientset(&corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: "apps", Name: "e"},
				InvolvedObject: corev1.ObjectReference{UID: "1"},
				Message:        c.told, LastTimestamp: metav1.NewTime(now.Add(-c.ago)),
			})
			rows := []Row{{Node: "n", Reason: "planned", creates: c.creates, deletes: c.deletes, claims: c.claims}}
			if err := askEngine(context.Background(), client, ds, rows, now); err != nil {
				t.Fatal(err)
			}
			if r := rows[0]; r.Reason != c.want || r.Detail != c.detail {
				t.Errorf("%s %q, want %s %q", r.Reason, r.Detail, c.want, c.detail)
			}
		})
	}
}

// If several things were reported about a node, the newest counts.
func TestWhyHearsTheNewest(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	event := func(name, text string, ago time.Duration) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Message: text, LastTimestamp: metav1.NewTime(now.Add(-ago))}
	}
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent"}}
	client := fake.NewClientset(
		event("a", view.RefusedText(view.RefusedCreate, "n", errors.New("second")), time.Second),
		event("b", view.RefusedText(view.RefusedCreate, "n", errors.New("first")), time.Minute))
	rows := []Row{{Node: "n", creates: true}}
	if err := askEngine(context.Background(), client, ds, rows, now); err != nil {
		t.Fatal(err)
	}
	if rows[0].Detail != "create: second" {
		t.Errorf("%q", rows[0].Detail)
	}
}

// A refusal by Pod Security comes with the label that allows it.
func TestWhyNamesTheLabel(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	refusal := errors.New(`pods "agent-" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes (volume "logs")`)
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent", UID: "1"}}
	client := fake.NewClientset(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "apps", Name: "e"},
		InvolvedObject: corev1.ObjectReference{UID: "1"},
		Message:        view.RefusedText(view.RefusedCreate, "n", view.WithAllowCommand("apps", refusal)), LastTimestamp: metav1.NewTime(now),
	})
	rows := []Row{{Node: "n", Namespace: "apps", Reason: "planned", creates: true}}
	if err := (&snapshot{}).explain(context.Background(), client, ds, rows, now, &gaps{}); err != nil {
		t.Fatal(err)
	}
	r := rows[0]
	want := []string{"kubectl label namespace apps pod-security.kubernetes.io/enforce=privileged --overwrite"}
	if r.Detail != "create: "+refusal.Error() || r.Change != againstStandard || !slices.Equal(r.Commands, want) {
		t.Errorf("%q\n%q\n%q", r.Detail, r.Change, r.Commands)
	}
}
