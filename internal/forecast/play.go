package forecast

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"
	"time"

	"everynode/internal/plan"
)

// Play plays the change to its end.
func Play(in *Input) *Forecast {
	g := newGame(in)
	f := &Forecast{}
	g.look(g.names...)
	g.ledger.Nodes(func(v *plan.Verdict) { g.served[v.Node] = v.Available })
	// Each pod has at most four moments: it is created, ready, ready for long enough, gone. If there are more
	// than twice as many, the changes never end.
	for turns := 8 * (len(in.Nodes) + len(in.Pods) + 1); ; turns-- {
		for g.act() {
		}
		f.MostDown = max(f.MostDown, len(g.down))
		if turns == 0 {
			f.Endless = true
			break
		}
		if !g.advance() {
			break
		}
	}
	g.finish(f)
	return f
}

// game is the model of the cluster, and what has happened in it.
type game struct {
	in     *Input
	now    time.Time
	ledger plan.Ledger
	names  []string // of all nodes, and of those that only pods name
	nodes  map[string]*plan.Node
	pods   map[string][]*plan.Pod // by node
	had    map[string]bool        // nodes that had a pod at the start
	served map[string]bool        // nodes that had an available pod at the start
	down   map[string]bool        // nodes in served that should have an available pod now, and have none
	steps  map[string]*Step
	// reached is plan.Input.Reached.
	reached map[string]int
	coming  agenda
	seen    plan.Moment
	made    int // pods
	last    time.Time
}

func newGame(in *Input) *game {
	g := &game{in: in, now: in.Now, last: in.Now, nodes: map[string]*plan.Node{}, pods: map[string][]*plan.Pod{},
		had: map[string]bool{}, served: map[string]bool{}, down: map[string]bool{}, steps: map[string]*Step{}, reached: map[string]int{}}
	g.ledger.Reset(in.Set)
	g.ledger.Follow(in.release)
	for i := range in.Nodes {
		n := in.Nodes[i]
		g.nodes[n.Name] = &n
		g.names = append(g.names, n.Name)
	}
	for i := range in.Pods {
		if p := in.Pods[i]; p.Node != "" {
			g.add(&p)
			g.had[p.Node] = true
		}
	}
	for name := range g.had {
		if g.nodes[name] == nil {
			g.names = append(g.names, name)
		}
	}
	slices.Sort(g.names)
	return g
}

// add puts a pod on its node, and records what will happen to it.
func (g *game) add(p *plan.Pod) {
	g.pods[p.Node] = append(g.pods[p.Node], p)
	switch node := g.nodes[p.Node]; {
	case node == nil || !node.Ready:
		// No kubelet reports for it.
	case !p.Deleted.IsZero():
		g.expect(later(p.Deleted.Add(g.in.Stop), g.now), p, true)
	case !p.Ready && !p.WasReady && p.Phase <= plan.Running && !p.Created.Add(g.in.Start).Before(g.now): // as soon as it is made, if it takes no time
		g.expect(p.Created.Add(g.in.Start), p, false)
	}
}

func (g *game) expect(at time.Time, p *plan.Pod, gone bool) {
	heap.Push(&g.coming, event{at: at, pod: p, gone: gone})
}

// look makes the algorithm decide for these nodes.
func (g *game) look(names ...string) {
	for _, name := range names {
		node := g.nodes[name]
		g.ledger.Look(g.now, plan.Sight{Name: name, Node: node, Pods: slices.Clone(g.pods[name]), Gone: node == nil, Reached: g.reached[name]})
	}
}

// act carries out what has been decided. It reports whether there was anything.
func (g *game) act() bool {
	var verdicts []*plan.Verdict
	g.ledger.Settle(func(v *plan.Verdict) {
		g.watch(v)
		if len(v.Creates())+len(v.Deletes())+len(v.Changes()) > 0 {
			verdicts = append(verdicts, v)
		}
	})
	slices.SortFunc(verdicts, func(a, b *plan.Verdict) int { return cmp.Compare(a.Node, b.Node) })
	var names []string
	for _, v := range verdicts {
		names = append(names, v.Node)
		g.note(v)
		for _, d := range slices.Clone(v.Deletes()) {
			g.remove(d)
		}
		for _, c := range slices.Clone(v.Changes()) {
			g.change(c)
		}
		for _, c := range slices.Clone(v.Creates()) {
			g.create(c)
		}
	}
	g.look(names...)
	return len(names) > 0
}

// watch records what matters later about the verdict for the node.
func (g *game) watch(v *plan.Verdict) {
	delete(g.down, v.Node)
	if g.served[v.Node] && v.Desired && !v.Available {
		g.down[v.Node] = true
	}
	if s := g.steps[v.Node]; s != nil {
		s.Ends = g.now.Sub(g.in.Now)
	}
}

// note records why something happens on a node for the first time.
func (g *game) note(v *plan.Verdict) {
	if g.steps[v.Node] == nil {
		g.steps[v.Node] = &Step{Node: v.Node, Reason: v.Reason, Detail: v.Detail, Begins: g.now.Sub(g.in.Now)}
	}
}

func (g *game) remove(d plan.Delete) {
	i := slices.IndexFunc(g.pods[d.Node], func(p *plan.Pod) bool { return p.UID == d.UID })
	if i < 0 {
		return
	}
	if d.Reaches {
		g.reached[d.Node] = g.in.release.Number
	}
	p := g.pods[d.Node][i]
	runs := p.Bound && p.Phase <= plan.Running
	g.seen++
	p.Deleted, p.SeenDeleted, p.Forced = g.now, g.seen, d.Now
	switch node := g.nodes[d.Node]; {
	case d.Now || !runs:
		g.pods[d.Node] = slices.Delete(g.pods[d.Node], i, i+1)
	case node != nil && node.Ready:
		g.expect(g.now.Add(g.in.Stop), p, true)
	}
}

// change turns a pod into one of the current revision in place: its containers end and start.
func (g *game) change(c plan.Change) {
	i := slices.IndexFunc(g.pods[c.Node], func(p *plan.Pod) bool { return p.UID == c.UID })
	if i < 0 {
		return
	}
	if c.Reaches {
		g.reached[c.Node] = g.in.release.Number
	}
	p := g.pods[c.Node][i]
	p.Hash, p.Generation, p.Changed, p.Ready = g.in.Set.Hash, g.in.Set.Generation, g.now, false
	g.expect(g.now.Add(g.in.Stop+g.in.Start), p, false)
}

// create creates a pod. One that the scheduler has to bind is bound at once.
func (g *game) create(c plan.Create) {
	g.made++
	g.seen++
	name := fmt.Sprintf("forecast-%d", g.made)
	of := &g.in.Set
	switch {
	case c.Stable:
		of = &g.in.release.Stable
	case g.in.release != nil:
		g.reached[c.Node] = g.in.release.Number
	}
	g.add(&plan.Pod{Name: name, UID: name, Node: c.Node, Hash: of.Hash, Generation: of.Generation,
		Created: g.now, SeenCreated: g.seen, Bound: true})
}

// advance moves to the next time at which anything changes. It reports whether there is one.
func (g *game) advance() bool {
	next := g.ledger.WakeAt()
	if len(g.coming) > 0 && (next.IsZero() || g.coming[0].at.Before(next)) {
		next = g.coming[0].at
	}
	if next.IsZero() {
		return false
	}
	g.now = later(next, g.now)
	var changed []string
	for len(g.coming) > 0 && !g.coming[0].at.After(g.now) {
		e := heap.Pop(&g.coming).(event)
		g.happen(e)
		changed = append(changed, e.pod.Node)
	}
	changed = g.ledger.Due(g.now, changed)
	g.last = g.now
	slices.Sort(changed)
	g.look(slices.Compact(changed)...)
	return true
}

func (g *game) happen(e event) {
	p := e.pod
	if e.gone {
		g.pods[p.Node] = slices.DeleteFunc(g.pods[p.Node], func(o *plan.Pod) bool { return o == p })
		return
	}
	p.Phase, p.Ready, p.ReadySince = plan.Running, true, g.now
}

// finish records the result.
func (g *game) finish(f *Forecast) {
	f.Took, f.Status = g.last.Sub(g.in.Now), g.ledger.Status()
	left := map[string]bool{}
	g.ledger.Nodes(func(v *plan.Verdict) {
		if wanting := v.Desired && v.Reason != plan.UpToDate; wanting || !v.Desired && len(g.pods[v.Node]) > 0 && v.Reason != plan.TaintKeepsPod {
			left[v.Node] = true
			f.Left = append(f.Left, Left{v.Node, v.Reason, v.Detail})
		}
	})
	slices.SortFunc(f.Left, func(a, b Left) int { return strings.Compare(a.Node, b.Node) })
	for name, s := range g.steps {
		switch has := len(g.pods[name]) > 0; {
		case g.had[name] && !has:
			s.Change = Loses
		case !g.had[name]:
			s.Change = Gains
		}
		s.Ended = !left[name]
		f.Steps = append(f.Steps, *s)
	}
	inOrder(f.Steps)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// event is what happens to a pod.
type event struct {
	at   time.Time
	pod  *plan.Pod
	gone bool // else it is ready
}

// agenda is a heap of future events, the earliest first.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), cmp.Compare(a[i].pod.Node, a[j].pod.Node), cmp.Compare(a[i].pod.UID, a[j].pod.UID)) < 0
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push and Pop are for package container/heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	*a = (*a)[:last]
	return e
}
