package main

import (
	"fmt"
	"strings"
	"time"

	"everynode/internal/fleetview"
	"everynode/internal/plan"
)

// scene is a made-up fleet.
type scene struct {
	name        string
	nodes, sets int
	harm        string // put into every text
	actions     bool
	stale       string
	hidden      string
	fails       bool // a wave has failed
	long        bool // names are as long as they may be
}

// harm is what a page would execute if it took texts for markup.
const harm = `<img src=x onerror="document.title='harmed'"><script>document.title='harmed'</script><b>&lt;`

func scenes() []scene {
	return []scene{
		{name: "small", nodes: 3, sets: 2, fails: true},
		{name: "large", nodes: 5000, sets: 20, fails: true},
		{name: "hundred", nodes: 40, sets: 100},
		{name: "empty"},
		{name: "no-sets", nodes: 3},
		{name: "release", nodes: 300, sets: 4, actions: true, fails: true},
		{name: "hostile", nodes: 5, sets: 3, harm: harm, fails: true, long: true, actions: true},
		{name: "stale", nodes: 3, sets: 1, stale: "since 14:03:11, trying again: pods: connection refused"},
		{name: "hidden", nodes: 3, sets: 1, hidden: "releases are not shown: daemonsetrollouts.everynode.io is forbidden"},
	}
}

// release is the number of the release that is under way.
const release = 4

func number(r plan.Reason) uint8 { return uint8(r) } // an index into reasons

func reasons() (all []fleetview.Reason) {
	all = append(all, fleetview.Reason{})
	for _, r := range plan.Reasons() {
		all = append(all, fleetview.Reason{Name: r.String(), Sentence: r.Sentence()})
	}
	return all
}

// at returns the fleet after tick changes.
func (s *scene) at(tick int, began, now time.Time) *fleetview.State {
	out := &fleetview.State{At: now.UnixMilli(), Cluster: "https://fleet.example.com:6443", Stale: s.stale, Hidden: s.hidden, Reasons: reasons(), Nodes: []fleetview.Node{}, Sets: []*fleetview.Set{}}
	for i := range s.nodes {
		out.Nodes = append(out.Nodes, s.node(i, began))
	}
	for i := range s.sets {
		out.Sets = append(out.Sets, s.set(i, tick, began, out.Nodes))
	}
	return out
}

func (s *scene) node(i int, began time.Time) fleetview.Node {
	n := fleetview.Node{Name: fmt.Sprintf("node-%d", i+1), Zone: "eu-central-1" + string(rune('a'+i%3)) + s.harm, Pool: []string{"workers", "workers", "storage"}[i%7%3]}
	switch {
	case s.long:
		n.Name = fmt.Sprintf("node-%d-%s%s", i, s.harm, strings.Repeat("n", 200))[:min(253, 200+len(s.harm))]
		n.Name += fmt.Sprint(i)
	case s.nodes > 100:
		n.Name = fmt.Sprintf("ip-10-%d-%d-%d.eu-central-1.compute.internal", 40+i/2500, i/50%50, 10+i%50)
	}
	if s.nodes > 20 && i%997 == 41 {
		n.Down, n.Since = "Kubelet stopped posting node status. "+s.harm, began.Add(-23*time.Minute).UnixMilli()
	}
	return n
}

func agents() []string {
	return []string{"node-exporter", "fluent-bit", "cilium", "kube-proxy", "csi-node", "falco", "otel-collector", "nvidia-device-plugin", "audit-agent", "node-local-dns"}
}

func (s *scene) set(i, tick int, began time.Time, nodes []fleetview.Node) *fleetview.Set {
	name := agents()[i%10]
	if i >= 10 {
		name = fmt.Sprintf("%s-%d", name, i/10)
	}
	if s.long {
		name = strings.Repeat("d", 250) + fmt.Sprint(i)
	}
	set := &fleetview.Set{Head: fleetview.Head{Namespace: []string{"monitoring", "logging", "kube-system"}[i%3], Name: name, Revision: "7c9f5b88d4", Phase: "up to date", Strategy: "RollingUpdate",
		Budget: &fleetview.Budget{MaxUnavailable: max(1, s.nodes/100)}}, Findings: []fleetview.Finding{}}
	set.History = fleetview.History{Revisions: []fleetview.Revision{
		{Number: 8, Hash: "7c9f5b88d4", Created: began.Add(-35 * time.Minute).UnixMilli(), Images: []string{"registry.example.com/team/" + agents()[i%10] + ":2.4.1" + s.harm}, Cause: s.harm},
		{Number: 7, Hash: "5d4c88f7b6", Created: began.Add(-190 * time.Hour).UnixMilli(), Images: []string{"registry.example.com/team/" + agents()[i%10] + ":2.4.0"}}}}
	for _, r := range set.History.Revisions {
		set.History.Moments = append(set.History.Moments, fleetview.Moment{At: r.Created, Kind: "revision", Text: fmt.Sprintf("revision %d (%s): %s", r.Number, r.Hash, r.Images[0])})
	}
	moving := i == 0 || s.nodes > 1000 && i < 3
	reached := 0
	if moving {
		reached = s.move(set, tick, began)
	}
	set.Cells = s.cells(i, moving, reached, tick, nodes)
	s.find(set, nodes, began)
	set.Pods = map[string]int{"7c9f5b88d4": s.nodes}
	if moving {
		set.Pods = map[string]int{}
		s.count(set)
	}
	return set
}

// move puts the set into the middle of a release, and returns how many nodes that has reached.
func (s *scene) move(set *fleetview.Set, tick int, began time.Time) (reached int) {
	first, tenth := min(3, s.nodes), (s.nodes+9)/10
	reached = min(s.nodes, tenth+tick*max(1, s.nodes/200))
	set.Before, set.Phase = []string{"5d4c88f7b6"}, "Rolling in wave all"
	set.Release = &fleetview.Release{Number: release, Phase: "Rolling", Reason: "UnderQuota", Message: "nodes get the new revision " + s.harm, Policy: "node-agents", Stable: "5d4c88f7b6", Target: "7c9f5b88d4",
		Wave: "all", Quota: s.nodes, Eligible: s.nodes, Exposed: reached, Failed: 1}
	if s.nodes == 300 {
		reached = tenth
		set.Phase, set.Release.Phase, set.Release.Reason = "Halted in wave tenth", "Halted", "TooManyFailed"
		set.Release.Message, set.Release.Wave, set.Release.Stands, set.Release.Exposed = "2 of 30 nodes failed, more than 1 may", "tenth", true, reached
	}
	set.Waves = []fleetview.Wave{{Name: "canary", Nodes: first, Soak: "30m", Approval: true}, {Name: "tenth", Nodes: tenth - min(first, tenth), Soak: "1h"}, {Name: "all", Nodes: s.nodes - tenth}}
	for i := range set.Waves {
		set.Waves[i].Open = set.Waves[i].Name == set.Release.Wave
	}
	set.Budget.Used = set.Budget.MaxUnavailable
	set.History.Moments = append([]fleetview.Moment{{At: began.Add(-2 * time.Minute).UnixMilli(), Kind: "wave", Text: "release 4: wave " + set.Release.Wave + " opened"},
		{At: began.Add(-time.Minute).UnixMilli(), Kind: "failure", Text: "node-2 failed: Restarting: " + s.text()}}, set.History.Moments...)
	return reached
}

// cells spreads the order of a release over the fleet, as hashes do.
func (s *scene) cells(i int, moving bool, reached, tick int, nodes []fleetview.Node) fleetview.Cells {
	cells := make(fleetview.Cells, len(nodes))
	for place := range nodes {
		rank := (place*7919 + i*13) % max(1, len(nodes))
		c := fleetview.Cell{State: fleetview.New, Reason: number(plan.UpToDate), Wave: uint8(fleetview.NoWave)}
		if moving {
			c = s.moved(rank, reached)
		}
		switch {
		case i == 1 && place%7 == 6:
			c = fleetview.Cell{State: fleetview.NotMeant, Reason: number(plan.NotSelected), Wave: uint8(fleetview.NoWave)}
		case nodes[place].Down != "":
			c.State, c.Reason = fleetview.Down, number(plan.NotReady)
		case s.fails && moving && (rank == 1 || rank == 17 && s.nodes > 20):
			c.State, c.Reason = fleetview.Failing, number(plan.Starting)
		}
		cells[place] = c
	}
	return cells
}

func (s *scene) moved(rank, reached int) fleetview.Cell {
	c := fleetview.Cell{State: fleetview.Old, Reason: number(plan.AwaitsWave), Wave: 2}
	if rank < (s.nodes+9)/10 {
		c.Wave = 1
	}
	if rank < 3 {
		c.Wave = 0
	}
	switch under := max(1, s.nodes/100); {
	case rank < reached-under:
		c.State, c.Reason = fleetview.New, number(plan.UpToDate)
	case rank < reached-under/3:
		c.State, c.Reason = fleetview.Starting, number(plan.Starting)
	case rank < reached:
		c.State, c.Reason = fleetview.Waiting, number(plan.WaitingForTermination)
	}
	return c
}

// find adds a finding about what fails, and one about what is down.
func (s *scene) find(set *fleetview.Set, nodes []fleetview.Node, began time.Time) {
	for state, text := range map[fleetview.CellState]string{fleetview.Failing: s.text(), fleetview.Down: "the node is not Ready: Kubelet stopped posting node status." + s.harm} {
		f := fleetview.Finding{ID: int(state), State: int(state), Reason: int(number(plan.Starting)), Text: text, Since: began.Add(-7 * time.Minute).UnixMilli(), Log: state == fleetview.Failing}
		for place, c := range set.Cells {
			if c.State == state {
				if f.Nodes++; f.Node == "" {
					f.Node = nodes[place].Name
				}
			}
		}
		if f.Nodes > 0 {
			set.Findings = append(set.Findings, f)
		}
	}
	fleetview.SortFindings(set.Findings)
}

func (s *scene) text() string {
	return "Starting: CrashLoopBackOff (container main, exit code 1, 4 restarts): open /etc/agent/agent.yaml: no such file or directory" + s.harm
}

// count records how far each wave is, and how many pods each revision has.
func (s *scene) count(set *fleetview.Set) {
	for _, c := range set.Cells {
		switch c.State {
		case fleetview.New:
			set.Waves[c.Wave].There++
			set.Pods["7c9f5b88d4"]++
		case fleetview.Old:
			set.Pods["5d4c88f7b6"]++
		}
	}
}
