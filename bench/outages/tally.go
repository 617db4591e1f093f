package main

import "time"

// sight is what is seen of a pod.
type sight struct {
	UID, Node, Version string
	Ready, Terminating bool
	Gone               bool
}

// tally counts, from what is seen of pods and nodes, in order, how many nodes have no working pod, and which nodes
// ever had a pod of a bad version. A working pod is Ready and not terminating, and its node is not down.
type tally struct {
	nodes   int // how many should have a pod
	pods    map[string]sight
	ready   map[string]int // by node: pods that work while the node is up
	down    map[string]bool
	working int // nodes with a working pod

	bad     map[string]bool // versions
	badPods int             // how many pods of bad versions there are now
	exposed map[string]bool // nodes that have, or had, a pod of a bad version since begin
	last    time.Time       // when the last of them got it
	most    int             // the most nodes without a working pod at once, since begin
	acted   time.Time       // when a pod was last created or deleted, since begin
	halt    halt            // of the release, if an engine says how it goes
}

func newTally(nodes int) *tally {
	t := &tally{nodes: nodes, pods: map[string]sight{}, ready: map[string]int{}, down: map[string]bool{}}
	t.begin()
	return t
}

// begin resets the counts, with these versions as bad ones. The pods that exist stay known.
func (t *tally) begin(bad ...string) {
	t.bad, t.exposed, t.badPods, t.last, t.most = map[string]bool{}, map[string]bool{}, 0, time.Time{}, t.without()
	t.acted, t.halt = time.Time{}, halt{}
	for _, v := range bad {
		t.bad[v] = true
	}
	for _, p := range t.pods {
		if t.bad[p.Version] {
			t.badPods++
		}
	}
}

// bare returns how many nodes have no pod, or one that is terminating.
func (t *tally) bare() int {
	served := map[string]bool{}
	for _, p := range t.pods {
		if !p.Terminating {
			served[p.Node] = true
		}
	}
	return t.nodes - len(served)
}

// without returns how many nodes have no working pod.
func (t *tally) without() int { return t.nodes - t.working }

// pod records what is seen of a pod.
func (t *tally) pod(at time.Time, s sight) {
	old, known := t.pods[s.UID]
	if known {
		t.count(old, -1)
	}
	if made, ends := !known && !s.Gone, known && !old.Terminating && (s.Terminating || s.Gone); made || ends {
		t.acted = at
	}
	if s.Gone {
		delete(t.pods, s.UID)
	} else {
		t.pods[s.UID] = s
		t.count(s, 1)
		if t.bad[s.Version] && !t.exposed[s.Node] {
			t.exposed[s.Node], t.last = true, at
		}
	}
	t.most = max(t.most, t.without())
}

func (t *tally) count(s sight, n int) {
	if t.bad[s.Version] {
		t.badPods += n
	}
	if s.Ready && !s.Terminating {
		t.change(s.Node, func() { t.ready[s.Node] += n })
	}
}

// node records that a node has gone down or come back.
func (t *tally) node(name string, down bool) {
	t.change(name, func() { t.down[name] = down })
	t.most = max(t.most, t.without())
}

// change calls do, which changes something about a node, and updates the number of working nodes.
func (t *tally) change(node string, do func()) {
	works := func() int {
		if t.ready[node] > 0 && !t.down[node] {
			return 1
		}
		return 0
	}
	t.working -= works()
	do()
	t.working += works()
}

// well reports whether every node has a working pod, and none a bad one.
func (t *tally) well() bool { return t.without() == 0 && t.badPods == 0 }

// up reports whether no node is down.
func (t *tally) up() bool {
	for _, down := range t.down {
		if down {
			return false
		}
	}
	return true
}
