package compat

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const retiredLabel = "retired"

// notRetired selects the nodes without the label "retired".
func notRetired(ds *appsv1.DaemonSet) {
	ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: retiredLabel, Operator: corev1.NodeSelectorOpDoesNotExist}}}}}}}
}

func (l *lab) retire(is bool, nodes ...string) {
	l.t.Helper()
	for _, name := range nodes {
		l.editNode(name, func(n *corev1.Node) {
			if delete(n.Labels, retiredLabel); is {
				n.Labels[retiredLabel] = "yes"
			}
		})
	}
}

// holds waits until the guard holds the pods of so many nodes, and so many pods are there in total.
func (d *rolloutKinds) holds(nodes, pods int) {
	d.t.Helper()
	if !d.within(patience, func() bool {
		g := d.rollout().Status.Guard
		return (g == nil && nodes == 0 || g != nil && g.Held == nodes) && len(d.images()) == pods
	}) {
		d.t.Fatalf("%d pods are left, and the guard is %+v; want %d, and %d held", len(d.images()), d.rollout().Status.Guard, pods, nodes)
	}
}

// TestGuard: on a real API server, with the rights of deploy/, an edit of labels that would remove the pods of more
// than one of three nodes removes none until a person allows it, whichever engine leads. If the labels are put back,
// nothing has happened.
func TestGuard(t *testing.T) {
	d := newRolloutKinds(t)
	leader := d.drive(ours, notRetired)
	d.retire(true, "n1", "n2")
	d.holds(2, 3)
	leader.stop()
	leader = d.start(ours)
	d.retire(true, "n3")
	d.holds(3, 3)
	d.retire(false, "n1", "n2", "n3")
	d.holds(0, 3)
	d.retire(true, "n1", "n2")
	d.holds(2, 3)
	d.ask(map[string]any{"allowRemovals": map[string]any{"nodes": 2, "before": metav1.NewTime(time.Now().Add(time.Hour))}})
	d.holds(0, 1)
	d.retire(true, "n3") // one may go by itself: no other has in this hour
	d.holds(0, 0)
	leader.stop()
}
