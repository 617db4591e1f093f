package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"everynode/internal/plan"
)

// nodeStates draws a node as it may be at some time; nil: absent.
func nodeStates() *rapid.Generator[*plan.Node] {
	return rapid.Custom(func(t *rapid.T) *plan.Node {
		if rapid.IntRange(0, 7).Draw(t, "absent") == 0 {
			return nil
		}
		n := &plan.Node{Name: "n", UID: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "uid"), Ready: rapid.Bool().Draw(t, "ready"),
			ReadyChanged: time.Unix(int64(rapid.IntRange(0, 1).Draw(t, "since")), 0), Labels: map[string]string{}}
		for _, key := range []string{"a", "b", "c"} {
			if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, key); v != "" {
				n.Labels[key] = v
			}
		}
		for _, effect := range []plan.Effect{plan.NoSchedule, plan.NoExecute, plan.PreferNoSchedule} {
			if rapid.IntRange(0, 3).Draw(t, "taint") == 0 {
				n.Taints = append(n.Taints, plan.Taint{Key: "k", Effect: effect})
			}
		}
		return n
	})
}

// concernsBySight is the slow version of nodeChange.concerns: it always evaluates the placement for both
// states.
func concernsBySight(p *plan.Placement, old, new *plan.Node, there bool) bool {
	before, after := admits(p, old), admits(p, new)
	health := old == nil || new == nil || old.UID != new.UID || old.Ready != new.Ready || !old.ReadyChanged.Equal(new.ReadyChanged)
	return before.Run != after.Run || before.Keep != after.Keep || (health || before != after) && (after.Run || there)
}

// A change of a node concerns exactly those DaemonSets whose placement evaluates differently for the two
// states.
func TestNodeChangeConcerns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ix, all := newIndex(), []*setEntry{}
		for i := range 4 {
			s := &setEntry{ds: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i), UID: types.UID(fmt.Sprint("u", i))}}, version: 1}
			if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "selector"); v != "" {
				s.spec.Placement.Selector = map[string]string{"a": v}
			}
			if rapid.Bool().Draw(t, "term") {
				s.spec.Placement.Terms = []plan.Term{{Labels: []plan.Requirement{{Key: "b", Operator: plan.Exists}}}}
			}
			if rapid.Bool().Draw(t, "tolerates") {
				s.spec.Placement.Tolerations = []plan.Toleration{{Key: "k", Exists: true}}
			}
			ix.upsertSet(s)
			all = append(all, s)
		}
		old, new := nodeStates().Draw(t, "old"), nodeStates().Draw(t, "new")
		if old == nil && new == nil {
			return
		}
		c := ix.nodeChange(old, new)
		for _, s := range all {
			there := rapid.Bool().Draw(t, "there")
			got := (c.placement || c.health) && c.concerns(&s.spec.Placement, there)
			if want := concernsBySight(&s.spec.Placement, old, new, there); got != want {
				t.Fatalf("%+v, pod there %v: concerned %v, want %v, by a change from %+v to %+v", s.spec.Placement, there, got, want, old, new)
			}
		}
	})
}

// longAffinity asks for many labels that no node has, and for no label that a node has.
func longAffinity(ds *appsv1.DaemonSet) {
	var term corev1.NodeSelectorTerm
	for i := range 2 * heavy {
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: fmt.Sprintf("k%d", i), Operator: corev1.NodeSelectorOpDoesNotExist})
	}
	ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}}}
}

// A placement that anybody could write thousands of is not evaluated while the index is locked.
func TestHeavyPlacementsAreAskedByTheirOwnDecision(t *testing.T) {
	w := newWatched()
	for _, name := range []string{"empty", "light", "long", "many"} {
		ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"}}
		ds.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		ds.Spec.Template.Labels = map[string]string{"app": name}
		ds.Spec.Template.Spec.NodeSelector = map[string]string{"never": "there"}
		switch name {
		case "empty":
			ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: make([]corev1.NodeSelectorTerm, 2*heavy)}}}
		case "long":
			longAffinity(ds)
		case "many":
			var values []string
			for i := range 2 * heavy {
				values = append(values, fmt.Sprint(i))
			}
			ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "v", Operator: corev1.NodeSelectorOpIn, Values: values}}}}}}}
		}
		s, err := compactSet(ds)
		if err != nil {
			t.Fatal(err)
		}
		w.upsertSet(s)
	}
	w.upsertNode(node("a"))
	w.begin()
	w.dirtied()
	w.upsertNode(node("a", func(n *plan.Node) { n.Ready = false }))
	if got := w.dirtied(); !slices.Equal(got, []string{"empty", "long", "many"}) {
		t.Errorf("dirty: %v, want the three that were not asked", got)
	}
	w.upsertNode(node("a", func(n *plan.Node) { n.Ready = false }))
	if got := w.dirtied(); got != nil {
		t.Errorf("a heartbeat makes dirty: %v", got)
	}
}

// A heavy placement is followed like others, when labels come and go.
func TestHeavyPlacementIsObeyed(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(longAffinity)
		c.start()
		c.run(30 * time.Second)
		c.covered(2, "agent:1")
		c.editNode("node-01", func(n *corev1.Node) { n.Labels = map[string]string{"k7": ""} })
		c.run(30 * time.Second)
		if pods := c.pods(); len(pods) != 1 || pods[0].Spec.NodeName != "node-02" {
			t.Errorf("there are %d pods, want one, on the node without the label", len(pods))
		}
		c.editNode("node-01", func(n *corev1.Node) { n.Labels = maps.Clone(map[string]string{}) })
		c.run(30 * time.Second)
		c.covered(2, "agent:1")
	})
}
