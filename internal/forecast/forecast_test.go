package forecast

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"everynode/internal/plan"
)

// changeAt returns when the changes of the tests are made.
func changeAt() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

// fleet is nodes a, b, c and so on, each with an available pod of revision "old".
func fleet(n int) *Input {
	in := &Input{Now: changeAt(), Start: 8 * time.Second, Stop: 2 * time.Second}
	in.Set = plan.Spec{Hash: "new", MaxUnavailable: plan.Amount{Value: 1}}
	for i := range n {
		in.node(string(rune('a' + i)))
		in.pod(string(rune('a'+i)), "old")
	}
	return in
}

func (in *Input) node(name string) *plan.Node {
	in.Nodes = append(in.Nodes, plan.Node{Name: name, UID: "node-" + name, Ready: true, Labels: map[string]string{"name": name}})
	return &in.Nodes[len(in.Nodes)-1]
}

func (in *Input) pod(node, hash string) *plan.Pod {
	at := in.Now.Add(-time.Hour)
	name := fmt.Sprint("pod-", len(in.Pods))
	in.Pods = append(in.Pods, plan.Pod{Name: name, UID: name, Node: node, Hash: hash, Created: at, ReadySince: at, Ready: true, Bound: true, Phase: plan.Running})
	return &in.Pods[len(in.Pods)-1]
}

// text formats a forecast for comparison in tests.
func (f *Forecast) text() string {
	var b strings.Builder
	for _, s := range f.Steps {
		fmt.Fprintf(&b, "%s %s %s %s", s.Node, s.Change, s.Reason, s.Begins)
		if s.Ended {
			fmt.Fprintf(&b, "-%s", s.Ends)
		}
		fmt.Fprintln(&b)
	}
	for _, l := range f.Left {
		fmt.Fprintf(&b, "left %s %s\n", l.Node, l.Reason)
	}
	fmt.Fprintf(&b, "took %s, down %d\n", f.Took, f.MostDown)
	return b.String()
}

func TestPlay(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"in place", func(in *Input) {
			in.Set.InPlace = map[string]bool{"old": true}
			in.Pods[1].Unchangeable = true
		}, `a replaced OutdatedInPlace 0s-10s
b replaced Outdated 10s-20s
c replaced OutdatedInPlace 20s-30s
took 30s, down 1`},
		{"one at a time", func(*Input) {}, `
			a replaced Outdated 0s-10s
			b replaced Outdated 10s-20s
			c replaced Outdated 20s-30s
			took 30s, down 1`},
		{"nothing to do", func(in *Input) { in.Set.Hash = "old" }, `
			took 0s, down 0`},
		{"two at a time", func(in *Input) { in.Set.MaxUnavailable.Value = 2 }, `
			a replaced Outdated 0s-10s
			b replaced Outdated 0s-10s
			c replaced Outdated 10s-20s
			took 20s, down 2`},
		{"minReadySeconds", func(in *Input) { in.Set.MinReady = 5 * time.Second }, `
			a replaced Outdated 0s-15s
			b replaced Outdated 15s-30s
			c replaced Outdated 30s-45s
			took 45s, down 1`},
		{"surge", func(in *Input) { in.Set.MaxUnavailable, in.Set.MaxSurge = plan.Amount{}, plan.Amount{Value: 1} }, `
			a replaced Surge 0s-10s
			b replaced Surge 8s-18s
			c replaced Surge 16s-26s
			took 26s, down 0`},
		{"a selector that leaves one out", func(in *Input) { in.Set.Placement.Selector = map[string]string{"name": "b"} }, `
			a removed NotSelected 0s-2s
			b replaced Outdated 0s-10s
			c removed NotSelected 0s-2s
			took 10s, down 1`},
		{"a new DaemonSet", func(in *Input) { in.Pods = nil }, `
			a new Missing 0s-8s
			b new Missing 0s-8s
			c new Missing 0s-8s
			took 8s, down 0`},
		{"OnDelete", func(in *Input) { in.Set.Strategy = plan.OnDelete }, `
			left a WaitingForDeletion
			left b WaitingForDeletion
			left c WaitingForDeletion
			took 0s, down 0`},
		{"a pod that is not ready goes first", func(in *Input) { in.Pods[2].Ready, in.Pods[2].WasReady = false, true }, `
			c replaced Outdated 0s-10s
			a replaced Outdated 10s-20s
			b replaced Outdated 20s-30s
			took 30s, down 1`},
		{"a node that does not answer holds nothing up", func(in *Input) {
			in.Nodes[1].Ready, in.Nodes[1].ReadyChanged = false, in.Now.Add(-time.Hour)
			in.Pods[1].Ready, in.Pods[1].WasReady = false, true
		}, `
			a replaced Outdated 0s-10s
			b replaced Outdated 0s
			c replaced Outdated 10s-20s
			left b WaitingForTermination
			took 20s, down 1`},
		{"current pods that are not ready hold the budget", func(in *Input) {
			in.Pods[0].Hash, in.Pods[0].Ready, in.Pods[0].WasReady = "new", false, true
		}, `
			left a NotReady
			left b BudgetSpent
			left c BudgetSpent
			took 0s, down 0`},
		{"a pod that is about to be ready is waited for", func(in *Input) {
			in.Pods[0].Hash, in.Pods[0].Ready, in.Pods[0].Created = "new", false, in.Now.Add(-3*time.Second)
		}, `
			b replaced Outdated 5s-15s
			c replaced Outdated 15s-25s
			took 25s, down 1`},
		{"a pod of a node that is gone", func(in *Input) { in.Nodes = in.Nodes[:2] }, `
			a replaced Outdated 0s-10s
			c removed NodeGone 0s-0s
			b replaced Outdated 10s-20s
			took 20s, down 1`},
		{"a DaemonSet that cannot be read", func(in *Input) { in.Set.Halt = plan.InvalidSpec }, `
			left a InvalidSpec
			left b InvalidSpec
			left c InvalidSpec
			took 0s, down 0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := fleet(3)
			c.change(in)
			want := strings.ReplaceAll(strings.TrimLeft(c.want, "\n"), "\t", "") + "\n"
			if got := Play(in).text(); got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}
