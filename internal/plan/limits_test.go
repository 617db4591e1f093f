package plan

import (
	"fmt"
	"testing"
)

// A node with ten thousand labels and as many tolerated taints costs a single pass over
// them: a selector looks its keys up.
func TestNodeWithTenThousandLabels(t *testing.T) {
	const many = 10_000
	n := Node{Name: "n", UID: "u", Ready: true, Labels: map[string]string{}}
	for i := range many {
		n.Labels[fmt.Sprintf("label-%d", i)] = fmt.Sprint(i)
		n.Taints = append(n.Taints, Taint{Key: fmt.Sprintf("taint-%d", i), Effect: NoSchedule})
	}
	in := &Input{Now: scriptNow(), Nodes: []Node{n, {Name: "plain", Ready: true}}, Set: Spec{Hash: "a", Placement: Placement{
		Selector:    map[string]string{"label-0": "0", "label-9999": "9999"},
		Terms:       []Term{{Labels: []Requirement{{Key: "label-5000", Operator: Gt, Values: []string{"4999"}}}}},
		Tolerations: []Toleration{{Exists: true}},
	}}}
	var out Plan
	Make(in, &out)
	if len(out.Creates) != 1 || out.Creates[0].Node != "n" || out.Verdicts[1].Reason != NotSelected {
		t.Fatalf("plan is\n%s", Render(&out, in.Now))
	}
	in.Set.Placement.Selector["label-9999"] = "another"
	Make(in, &out)
	if v := out.Verdicts[0]; v.Reason != NotSelected || v.Detail != "label-9999=another" {
		t.Errorf("another value: %s %s", v.Reason, v.Detail)
	}
	delete(in.Set.Placement.Selector, "label-9999")
	in.Set.Placement.Tolerations[0].Key = "taint-0"
	Make(in, &out)
	if v := out.Verdicts[0]; v.Reason != TaintNotTolerated || v.Detail != "taint-1:NoSchedule" {
		t.Errorf("one toleration of ten thousand: %s %s", v.Reason, v.Detail)
	}
}

// A placement with very many terms, the other way round.
func TestPlacementWithTenThousandTerms(t *testing.T) {
	var p Placement
	for i := range 10_000 {
		p.Terms = append(p.Terms, Term{Names: []Requirement{{Key: nameField, Operator: In, Values: []string{fmt.Sprintf("node-%d", i)}}}})
	}
	if got := p.Admits(&Node{Name: "node-9999"}); !got.Run {
		t.Errorf("the last term is lost: %+v", got)
	}
	if got := p.Admits(&Node{Name: "node-10000"}); got.Keep || got.Reason != AffinityNotMatched {
		t.Errorf("no term names it: %+v", got)
	}
}

// Values that no API server accepts must not invert the budget.
func TestAbsurdAmounts(t *testing.T) {
	for name, c := range map[string]struct {
		set  Spec
		want int // number of deletes
	}{
		"negative":           {Spec{MaxUnavailable: Amount{Value: -5}}, 1},
		"negative share":     {Spec{MaxUnavailable: Amount{Value: -50, Percent: true}}, 1},
		"more than there is": {Spec{MaxUnavailable: Amount{Value: 1 << 30}}, 10},
		"a thousand percent": {Spec{MaxUnavailable: Amount{Value: 1000, Percent: true}}, 10},
	} {
		in := fleet(10)
		c.set.Hash = "next"
		in.Set = c.set
		var out Plan
		Make(in, &out)
		if len(out.Deletes) != c.want || len(out.Creates) != 0 {
			t.Errorf("%s: %d deletes and %d creates, want %d deletes", name, len(out.Deletes), len(out.Creates), c.want)
		}
	}
}
