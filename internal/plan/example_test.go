package plan_test

import (
	"fmt"
	"time"

	"everynode/internal/plan"
)

// aMoment returns the Now of the examples: the plan never asks a clock.
func aMoment() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// An update with maxUnavailable 1 takes the first node by name. The others wait for it, and each
// node has its reason.
func ExampleMake() {
	now := aMoment()
	old := func(name, node string) plan.Pod {
		return plan.Pod{Name: name, UID: name, Node: node, Hash: "old", Phase: plan.Running, Bound: true,
			Ready: true, Created: now.Add(-time.Hour), ReadySince: now.Add(-time.Hour)}
	}
	in := plan.Input{
		Now: now,
		Set: plan.Spec{Hash: "new", Strategy: plan.RollingUpdate, MaxUnavailable: plan.Amount{Value: 1}},
		Nodes: []plan.Node{
			{Name: "node-1", Ready: true}, {Name: "node-2", Ready: true},
			{Name: "node-3", Ready: true, Taints: []plan.Taint{{Key: "gpu", Effect: plan.NoSchedule}}},
			{Name: "node-4", Ready: true},
		},
		Pods: []plan.Pod{old("agent-1", "node-1"), old("agent-2", "node-2")},
	}
	var p plan.Plan
	plan.Make(&in, &p)
	for _, v := range p.Verdicts {
		fmt.Println(v.Node, v.Reason)
	}
	for _, c := range p.Creates {
		fmt.Println("create a pod on", c.Node)
	}
	for _, d := range p.Deletes {
		fmt.Println("delete", d.Pod)
	}
	// Output:
	// node-1 BudgetSpent
	// node-2 BudgetSpent
	// node-3 TaintNotTolerated
	// node-4 Missing
	// create a pod on node-4
}

// The text that the command line prints, and that the scripts in testdata are written in.
func ExampleRender() {
	now := aMoment()
	in := plan.Input{
		Now:   now,
		Set:   plan.Spec{Hash: "a", MinReady: 10 * time.Second},
		Nodes: []plan.Node{{Name: "node-1", Ready: true}, {Name: "node-2", Ready: true}},
		Pods: []plan.Pod{{Name: "agent-1", UID: "1", Node: "node-1", Hash: "a", Phase: plan.Running, Bound: true,
			Ready: true, Created: now.Add(-5 * time.Second), ReadySince: now.Add(-4 * time.Second)}},
	}
	var p plan.Plan
	plan.Make(&in, &p)
	fmt.Print(plan.Render(&p, now))
	// Output:
	// NODE     POD       REASON         DETAIL   UNTIL
	// node-1   agent-1   MinReadyWait   -        +6s
	// node-2   -         Missing        -        -
	// create on node-2: Missing
	// status desired=2 current=1 ready=1 updated=1 available=0 unavailable=2 misscheduled=0
	// wake in 6s
}

// A ledger looks at one node at a time, and its result is that of Make for all nodes.
func ExampleLedger() {
	now := aMoment()
	var l plan.Ledger
	l.Reset(plan.Spec{Hash: "a"})
	for _, name := range []string{"node-1", "node-2"} {
		l.Look(now, plan.Sight{Name: name, Node: &plan.Node{Name: name, Ready: true}})
	}
	fmt.Println("desired:", l.Status().Desired, "node-2:", l.Verdict("node-2").Reason)
	l.Look(now, plan.Sight{Name: "node-2"}) // the node is gone
	fmt.Println("desired:", l.Status().Desired)
	// Output:
	// desired: 2 node-2: Missing
	// desired: 1
}
