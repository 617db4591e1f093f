package why

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// toldFor is how long a refused write counts: the engine tries again after a minute at most.
const toldFor = 2 * time.Minute

// againstStandard says what would change that a pod is refused by the Pod Security Standard of its namespace.
const againstStandard = "Change the template so that its pods meet the standard. Or, if everyone who may create pods in the namespace is trusted with that on nodes, label the namespace."

// askEngine completes the rows of nodes where something is to be written with what the engine has reported in
// events: that a write was refused there, or that it waits because pods do not last. Neither is in an object
// that a plan is made from.
func askEngine(ctx context.Context, client kubernetes.Interface, ds *daemonSet, rows []Row, now time.Time) error {
	if !slices.ContainsFunc(rows, func(r Row) bool { return r.writes() || r.claims }) {
		return nil
	}
	about := fields.OneTermEqualSelector("involvedObject.uid", string(ds.UID)).String()
	events, err := client.CoreV1().Events(ds.Namespace).List(ctx, metav1.ListOptions{FieldSelector: about})
	if err != nil {
		return fmt.Errorf("list the events of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	newest := map[string]view.Told{}
	for i := range events.Items {
		if t, ok := view.ReadTold(&events.Items[i]); ok && t.At.After(newest[t.Node].At) {
			newest[t.Node] = t
		}
	}
	for i := range rows {
		if t := newest[rows[i].Node]; rows[i].holds(&t, now) {
			rows[i].hear(&t)
		}
	}
	return nil
}

// holds reports whether what the engine has reported is the reason why nothing is written yet.
func (r *Row) holds(t *view.Told, now time.Time) bool {
	switch t.Reason {
	case plan.WriteFailed:
		same := r.claims && t.Refused == view.RefusedClaim || r.creates && t.Refused == view.RefusedCreate || r.deletes && t.Refused == view.RefusedDelete || r.changes && t.Refused == view.RefusedChange
		return same && now.Sub(t.At) < toldFor
	case plan.PodsDoNotLast:
		return r.creates && now.Before(t.Until)
	}
	return false
}

// writes reports whether something is to be written on the node.
func (r *Row) writes() bool { return r.creates || r.deletes || r.changes }

func (r *Row) hear(t *view.Told) {
	r.Reason, r.Detail, r.Why, r.Change = t.Reason.String(), t.Detail, t.Reason.Sentence(), t.Reason.Remedy()
	r.Cause, r.Refused, r.rank, r.OK = nil, t.Refused, heldUp, false
	if t.Refused != "" {
		r.Detail = t.Refused + ": " + t.Detail
	}
	if view.AllowCommand(r.Namespace, t.Detail) != "" {
		r.Change = againstStandard
	}
	if !t.Until.IsZero() {
		r.Until = &t.Until
	}
}
