package plan

import (
	"fmt"
	"testing"
	"time"
)

// fleet returns a cluster in the middle of a rolling update.
func fleet(nodes int) *Input {
	now := scriptNow()
	in := &Input{Now: now, Set: Spec{
		Placement: Placement{
			Selector:    map[string]string{"kubernetes.io/os": "linux"},
			Terms:       []Term{{Labels: []Requirement{{Key: "pool", Operator: NotIn, Values: []string{"windows", "edge"}}}}},
			Tolerations: []Toleration{{Key: "node.kubernetes.io/not-ready", Exists: true, Effect: NoExecute}},
		},
		MaxUnavailable: Amount{Value: 10, Percent: true},
		MinReady:       30 * time.Second,
		Hash:           "b",
	}}
	for i := range nodes {
		name := fmt.Sprintf("node-%06d", (i*7919)%nodes)
		in.Nodes = append(in.Nodes, Node{Name: name, UID: "uid-" + name, Ready: true,
			Labels: map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/hostname": name, "pool": "main"}})
		p := Pod{Name: "agent-" + name, UID: name, Node: name, Bound: true, Hash: "a", Phase: Running, Created: now.Add(-time.Hour), Ready: true, ReadySince: now.Add(-time.Hour)}
		if i%3 == 0 {
			p.Hash = "b"
		}
		in.Pods = append(in.Pods, p)
	}
	return in
}

// Making a plan into an existing one allocates nothing, because a plan is made after
// every event.
func TestMakeDoesNotAllocate(t *testing.T) {
	in := fleet(5000)
	var out Plan
	Make(in, &out)
	if len(out.Deletes) != 500 {
		t.Fatalf("%d deletes, want 10%% of 5000", len(out.Deletes))
	}
	if got := testing.AllocsPerRun(5, func() { Make(in, &out) }); got > 0 {
		t.Errorf("Make allocates %v times", got)
	}
}

func BenchmarkMake5000(b *testing.B) {
	in := fleet(5000)
	var out Plan
	b.ReportAllocs()
	for b.Loop() {
		Make(in, &out)
	}
}

func BenchmarkClassify(b *testing.B) {
	in := fleet(1)
	pods := []*Pod{&in.Pods[0]}
	var v Verdict
	b.ReportAllocs()
	for b.Loop() {
		Classify(in, in.Nodes[0].Name, &in.Nodes[0], pods, &v)
	}
}
