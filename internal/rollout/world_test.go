package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// world is nodes that do what a release says: a node that is granted a revision has a well pod of it after
// start, unless it is said to fail. Everything is at times since the beginning.
type world struct {
	policy   Policy
	state    State
	requests Requests
	heeded   Requests
	target   string
	nodes    map[string]*testNode
	bound    int
	start    time.Duration
	now      time.Duration
	problem  Reason
	unwell   bool
	bad      map[string]bool // revisions that are never well
	rows     []string
	check    func(before State, in *Seen)
}

type testNode struct {
	Node
	revision string
	since    time.Duration // when it got it
	sick     bool          // its pod is not well, and will not be
	sickAt   time.Duration
	refuses  bool          // the API server refuses its pods
	tried    time.Duration // since when; 0: no pod was refused
	last     time.Duration // when one was last
}

// epoch returns a Thursday, nine o'clock in Berlin.
func epoch() time.Time { return time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC) }

func newWorld() *world {
	return &world{policy: Default(), nodes: map[string]*testNode{}, bound: 1, start: 10 * time.Second, target: "a", bad: map[string]bool{}}
}

func (w *world) time() time.Time { return epoch().Add(w.now) }

func (w *world) add(name string, labels map[string]string) {
	w.nodes[name] = &testNode{Node: Node{Name: name, Labels: labels}, since: w.now - time.Hour}
}

// well is whether the node's pod is available.
func (w *world) well(n *testNode) bool {
	return n.revision != "" && !n.sick && !w.bad[n.revision] && w.now >= n.since+w.start
}

func (w *world) failed(n *testNode) bool {
	from := n.since
	if n.sick {
		from = max(from, n.sickAt)
	}
	return !w.well(n) && w.now >= from+w.policy.Failure.StartWithin
}

func (w *world) seen() *Seen {
	in := &Seen{Target: w.target, Pods: map[string]int{}, Bound: w.bound, Problem: w.problem, Unwell: w.unwell, Requests: w.requests, Heeded: w.heeded}
	for _, n := range w.nodes {
		if n.revision == "" {
			continue
		}
		in.Pods[n.revision] += 0
		if w.well(n) {
			in.Pods[n.revision]++
		}
		if w.refused(n) {
			in.Failed, in.Refused = in.Failed+1, in.Refused+1
		}
		switch {
		case n.revision != w.target && n.revision != w.state.Stable:
			in.Other++
		case n.revision == w.target:
			in.Exposed++
			w.look(n, in)
		}
	}
	in.Layout = w.layout()
	from := 0
	for _, step := range in.Layout.Steps {
		var c Counts
		for _, name := range in.Layout.Order[from:step.Quota] {
			if n := w.nodes[name]; !n.Down && n.revision != w.target && !(w.refused(n) && w.now < n.last+5*time.Minute) {
				c.Candidates++
			}
		}
		in.Counts = append(in.Counts, c)
		from = step.Quota
	}
	return in
}

// refused is whether the node has failed because its pods were refused, until it has one.
func (w *world) refused(n *testNode) bool {
	return n.tried > 0 && w.now >= n.tried+30*time.Second
}

// look counts an exposed node.
func (w *world) look(n *testNode, in *Seen) {
	switch {
	case n.Down: // excused
	case w.well(n):
		in.Well++
	default:
		in.UnderWay++
		if w.failed(n) {
			in.Failed++
		}
	}
}

func (w *world) layout() *Layout {
	nodes := w.sorted()
	for i := range nodes {
		nodes[i].Exposed = w.target != w.state.Stable && w.nodes[nodes[i].Name].revision == w.target
	}
	return NewLayout(&w.policy, "uid", nodes)
}

// settle lets everything happen that happens now. A release that changes without end ends the test.
func (w *world) settle() (wake time.Time) {
	for range 100 + 10*len(w.nodes) {
		in, before := w.seen(), w.state
		w.state, wake = Advance(&w.policy, w.state, in, w.time())
		w.heeded = in.Requests
		w.tell(before, in)
		if w.check != nil {
			w.check(before, in)
		}
		if !w.act(in) && w.state.row() == before.row() {
			return wake
		}
	}
	panic(fmt.Sprintf("at %s the release still changes: %s", w.now, w.state.row()))
}

// act grants the target to the next node, or gives one back the stable revision.
func (w *world) act(in *Seen) bool {
	s := &w.state
	for _, n := range w.nodes {
		if n.revision == "" && !n.Down && s.Stable != "" {
			n.revision, n.since = s.Stable, w.now-w.start // a node that is new
			return true
		}
	}
	if s.Phase == RollingBack || s.Phase == Idle {
		return w.give(in.Layout.Order, s.Stable)
	}
	if !s.Grants() || in.UnderWay >= w.bound+s.Forgiven {
		return false
	}
	step := in.Layout.Steps[in.Layout.Step(w.policy.wave(s.Wave), s.Group)]
	return w.give(in.Layout.Order[:step.Quota], s.Target)
}

// give gives the revision to the first of the nodes that can have it.
func (w *world) give(names []string, revision string) bool {
	for _, name := range names {
		n := w.nodes[name]
		switch {
		case n.revision == revision || n.Down:
		case n.refuses:
			if w.now >= n.last+30*time.Second {
				n.tried, n.last = cmp.Or(n.tried, w.now), w.now
			}
		default:
			n.revision, n.since, n.sick, n.tried = revision, w.now, false, 0
			return true
		}
	}
	return false
}

// next returns when something happens next by itself; zero: never.
func (w *world) next(wake time.Time) (at time.Duration) {
	sooner := func(t time.Duration) {
		if t > w.now && (at == 0 || t < at) {
			at = t
		}
	}
	if !wake.IsZero() {
		sooner(wake.Sub(epoch()))
	}
	for _, n := range w.nodes {
		sooner(n.since + w.start)
		sooner(n.last + 30*time.Second)
		sooner(n.last + 5*time.Minute)
		if !w.well(n) {
			sooner(n.since + w.policy.Failure.StartWithin)
			sooner(n.sickAt + w.policy.Failure.StartWithin)
		}
	}
	return at
}

// run lets time pass until then.
func (w *world) run(until time.Duration) {
	for {
		at := w.next(w.settle())
		if at == 0 || at > until {
			w.now = until
			w.settle()
			return
		}
		w.now = at
	}
}

// row returns what of the state makes a row of the table.
func (s *State) row() string {
	return fmt.Sprintln(s.Stable, s.Target, s.Release, s.Phase, s.Reason, s.Wave, s.Group, s.Quota, s.Stops, s.Ignored)
}

// tell adds a row to the table where the state has changed.
func (w *world) tell(before State, in *Seen) {
	s := &w.state
	if s.row() == before.row() {
		return
	}
	w.rows = append(w.rows, strings.Join([]string{w.now.String(), s.Phase.String(), cmp.Or(s.Reason.String(), "-"), s.Stable + ">" + s.Target,
		cmp.Or(strings.Trim(s.Wave+"/"+s.Group, "/"), "-"), fmt.Sprint(s.Quota), fmt.Sprint(in.Exposed), fmt.Sprint(in.Failed), s.Soaked.String(), s.Ignored}, "\t"))
}

// table returns what has become of the release, and where the nodes are in the end.
func (w *world) table() string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "AFTER\tPHASE\tREASON\tREVISIONS\tWAVE\tQUOTA\tEXPOSED\tFAILED\tSOAKED\tIGNORED")
	for _, row := range w.rows {
		fmt.Fprintln(out, row)
	}
	_ = out.Flush() // into a strings.Builder
	on := map[string][]string{}
	for _, name := range NewLayout(&w.policy, "uid", w.sorted()).Order {
		n := w.nodes[name]
		on[n.revision] = append(on[n.revision], name)
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	text := strings.Join(lines, "\n")
	for _, revision := range []string{"", "a", "b", "c", "d"} {
		if names := on[revision]; len(names) > 0 {
			text += fmt.Sprintf("%s: %s\n", cmp.Or(revision, "none"), strings.Join(names, " "))
		}
	}
	return text
}

func (w *world) sorted() (nodes []Node) {
	for _, n := range w.nodes {
		nodes = append(nodes, n.Node)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return nodes
}
