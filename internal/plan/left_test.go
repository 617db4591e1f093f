package plan

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// Pods that an earlier node of a name has left are deleted at once and without a grace
// period, count for nothing, and keep the node from getting its own pod only while they
// may run.
func TestPodsOfAnEarlierNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		in.Waits = nil // a postponed write waits, whatever it is
		known := map[string]bool{}
		for _, n := range in.Nodes {
			known[n.Name] = true
		}
		without := *in
		without.Pods = nil
		blocked := map[string]bool{}
		for i := range in.Pods {
			p := &in.Pods[i]
			p.Newer = false
			p.Left = known[p.Node] && rapid.Bool().Draw(t, "left")
			if !p.Left {
				without.Pods = append(without.Pods, *p)
			} else if !p.Forced {
				blocked[p.Node] = true
			}
		}
		var got, want Plan
		Make(in, &got)
		Make(&without, &want)
		for _, p := range in.Pods {
			i := slices.IndexFunc(got.Deletes, func(d Delete) bool { return d.UID == p.UID })
			goes := i >= 0 && got.Deletes[i].Now && got.Deletes[i].Reason == NodeReplaced
			if should := p.Left && !p.Forced && !p.Uncertain && in.Set.Halt == NoReason; goes != should {
				t.Fatalf("%+v: goes %v", p, goes)
			}
		}
		for _, c := range got.Creates {
			if blocked[c.Node] {
				t.Fatalf("%s gets a pod while one of an earlier node may run there", c.Node)
			}
		}
		// Which nodes move may differ, because a node that waits is down anyway.
		if len(blocked) == 0 {
			if diff := cmp.Diff([]any{want.Creates, want.Deletes, want.WakeAt}, []any{got.Creates, got.Deletes, got.WakeAt}, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("with pods that only finalizers keep (-without +with):\n%s", diff)
			}
		}
		if got.Status != want.Status {
			t.Fatalf("status %+v, without what is left %+v", got.Status, want.Status)
		}
	})
}
