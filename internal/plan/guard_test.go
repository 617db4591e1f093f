package plan

import (
	"slices"
	"testing"
)

// A node may be allowed to lose its pod only once its turn in the release has come, also while a node before it is down and
// takes no turn.
func TestRemovableInTurn(t *testing.T) {
	in := &Input{Set: Spec{Hash: "b", MaxUnavailable: Amount{Value: 1}}, Guard: &Guard{}}
	in.Set.Placement.Selector = map[string]string{"pool": "main"}
	r := &Release{Stable: Spec{Hash: "a", MaxUnavailable: Amount{Value: 1}}, Ranks: map[string]int{}, Steps: []int{3}, Grants: true}
	for i, name := range []string{"n0", "n1", "n2"} {
		in.Nodes = append(in.Nodes, Node{Name: name, Ready: name != "n0"})
		in.Pods = append(in.Pods, Pod{Name: "a-" + name, UID: name, Node: name, Hash: "a", Bound: true, Phase: Running, Ready: true})
		r.Ranks[name] = i
	}
	in.Release = r
	for quota, want := range [][]string{nil, nil, {"n1"}, {"n1", "n2"}} {
		r.Quota = quota
		k := keep(in)
		k.settle()
		if got := k.ledger.Removable(); !slices.Equal(got, want) {
			t.Errorf("with a quota of %d these may go: %v, want %v", quota, got, want)
		}
		if n := k.ledger.Totals().Guarded; n != 3 {
			t.Errorf("with a quota of %d, %d are held", quota, n)
		}
	}
}
