package fleetview

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
)

// Change is how a State differs from an earlier one. What is left out has not changed.
type Change struct {
	At    int64   `json:"at"`
	Stale *string `json:"stale,omitempty"`
	// Nodes has nodes by their place. A place beyond the last one is a new one.
	Nodes map[int]Node `json:"nodes,omitempty"`
	// Sets has changes by Set.Key. An unknown key is that of a new DaemonSet, whose change has everything.
	Sets map[string]SetChange `json:"sets,omitempty"`
	Gone []string             `json:"gone,omitempty"`
}

// SetChange is how a DaemonSet differs.
type SetChange struct {
	// Head is the whole head, Part only what differs in it: one of the two.
	Head *Head     `json:"head,omitempty"`
	Part *HeadPart `json:"part,omitempty"`
	// Found are findings that are new or different; Lost are the IDs of those that are gone.
	Found   []Finding `json:"found,omitempty"`
	Lost    []int     `json:"lost,omitempty"`
	History *History  `json:"history,omitempty"`
	// Cells has cells by the place of their node.
	Cells map[int]Cell `json:"cells,omitempty"`
}

// HeadPart is the part of a Head that changes in a release, with its new values. What is left out has not changed. A Head that
// has lost one of these values is sent whole.
type HeadPart struct {
	Pods    map[string]int `json:"pods,omitempty"`
	Phase   string         `json:"phase,omitempty"`
	Stopped string         `json:"stopped,omitempty"`
	Budget  *Budget        `json:"budget,omitempty"`
	Release *Release       `json:"release,omitempty"`
	Waves   []Wave         `json:"waves,omitempty"`
	More    int            `json:"more,omitempty"`
}

// Between returns what has changed from one State to a later one of the same fleet; nil if at most the time has.
func Between(before, after *State) *Change {
	c := &Change{At: after.At}
	if before.Stale != after.Stale {
		c.Stale = &after.Stale
	}
	c.Nodes = changedNodes(before.Nodes, after.Nodes)
	was := before.byKey()
	for _, s := range after.Sets {
		key := s.Key()
		if old := was[key]; old != s {
			if d := setChange(old, s); d != nil {
				if c.Sets == nil {
					c.Sets = map[string]SetChange{}
				}
				c.Sets[key] = *d
			}
		}
		delete(was, key)
	}
	c.Gone = slices.Sorted(maps.Keys(was))
	if c.Stale == nil && len(c.Nodes)+len(c.Sets)+len(c.Gone) == 0 {
		return nil
	}
	return c
}

func (s *State) byKey() map[string]*Set {
	all := make(map[string]*Set, len(s.Sets))
	for _, set := range s.Sets {
		all[set.Key()] = set
	}
	return all
}

func changedNodes(before, after []Node) map[int]Node {
	var changed map[int]Node
	for i := range after {
		if i < len(before) && before[i] == after[i] {
			continue
		}
		if changed == nil {
			changed = map[int]Node{}
		}
		changed[i] = after[i]
	}
	return changed
}

// setChange returns nil if nothing has changed. Without an earlier set, the change has everything.
func setChange(before, after *Set) *SetChange {
	d := &SetChange{}
	if before == nil {
		before = &Set{}
		d.Head, d.History = &after.Head, &after.History
	}
	if d.Head == nil && !reflect.DeepEqual(before.Head, after.Head) {
		if d.Part = partOf(&before.Head, &after.Head); d.Part == nil {
			d.Head = &after.Head
		}
	}
	if !reflect.DeepEqual(before.History, after.History) {
		d.History = &after.History
	}
	d.find(before.Findings, after.Findings)
	for i, c := range after.Cells {
		if i < len(before.Cells) && before.Cells[i] == c {
			continue
		}
		if d.Cells == nil {
			d.Cells = map[int]Cell{}
		}
		d.Cells[i] = c
	}
	if d.Head == nil && d.Part == nil && d.History == nil && len(d.Found)+len(d.Lost)+len(d.Cells) == 0 {
		return nil
	}
	return d
}

// partOf returns what has changed; nil if the whole later Head must be sent.
func partOf(before, after *Head) *HeadPart {
	p := &HeadPart{}
	if !maps.Equal(before.Pods, after.Pods) {
		p.Pods = after.Pods
	}
	if before.Phase != after.Phase {
		p.Phase = after.Phase
	}
	if before.Stopped != after.Stopped {
		p.Stopped = after.Stopped
	}
	if !reflect.DeepEqual(before.Budget, after.Budget) {
		p.Budget = after.Budget
	}
	if !reflect.DeepEqual(before.Release, after.Release) {
		p.Release = after.Release
	}
	if !slices.Equal(before.Waves, after.Waves) {
		p.Waves = after.Waves
	}
	if before.More != after.More {
		p.More = after.More
	}
	if !reflect.DeepEqual(before.with(p), *after) {
		return nil
	}
	return p
}

// with returns the Head with a part of it changed.
func (h Head) with(p *HeadPart) Head {
	if len(p.Pods) > 0 {
		h.Pods = p.Pods
	}
	if len(p.Waves) > 0 {
		h.Waves = p.Waves
	}
	h.Phase, h.Stopped, h.More = cmp.Or(p.Phase, h.Phase), cmp.Or(p.Stopped, h.Stopped), cmp.Or(p.More, h.More)
	h.Budget, h.Release = cmp.Or(p.Budget, h.Budget), cmp.Or(p.Release, h.Release)
	return h
}

func (d *SetChange) find(before, after []Finding) {
	was := make(map[int]Finding, len(before))
	for _, f := range before {
		was[f.ID] = f
	}
	for _, f := range after {
		if old, known := was[f.ID]; !known || old != f {
			d.Found = append(d.Found, f)
		}
		delete(was, f.ID)
	}
	d.Lost = slices.Sorted(maps.Keys(was))
}

// Apply returns the later State, given an earlier one, which it does not change.
func (s *State) Apply(c *Change) *State {
	after := *s
	after.At = c.At
	if c.Stale != nil {
		after.Stale = *c.Stale
	}
	if len(c.Nodes) > 0 {
		after.Nodes = placed(s.Nodes, c.Nodes)
	}
	sets := s.byKey()
	for _, key := range c.Gone {
		delete(sets, key)
	}
	for key, d := range c.Sets {
		sets[key] = sets[key].apply(&d)
	}
	after.Sets = slices.AppendSeq(make([]*Set, 0, len(sets)), maps.Values(sets))
	slices.SortFunc(after.Sets, func(a, b *Set) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return &after
}

// apply returns the later set, given s, which may be nil.
func (s *Set) apply(d *SetChange) *Set {
	after := Set{Findings: []Finding{}}
	if s != nil {
		after = *s
	}
	if d.Head != nil {
		after.Head = *d.Head
	}
	if d.Part != nil {
		after.Head = after.with(d.Part)
	}
	if d.History != nil {
		after.History = *d.History
	}
	if len(d.Found)+len(d.Lost) > 0 {
		after.Findings = d.findings(after.Findings)
	}
	if len(d.Cells) > 0 {
		after.Cells = placed(after.Cells, d.Cells)
	}
	return &after
}

func (d *SetChange) findings(before []Finding) []Finding {
	all := make(map[int]Finding, len(before))
	for _, f := range before {
		all[f.ID] = f
	}
	for _, id := range d.Lost {
		delete(all, id)
	}
	for _, f := range d.Found {
		all[f.ID] = f
	}
	left := slices.AppendSeq(make([]Finding, 0, len(all)), maps.Values(all))
	SortFindings(left)
	return left
}

// byWeight compares findings: the worst state first, and the older before the newer.
func byWeight(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.State, a.State), cmp.Compare(a.ID, b.ID))
}

// SortFindings sorts findings in the order in which they are shown.
func SortFindings(all []Finding) { slices.SortFunc(all, byWeight) }

// placed returns a copy in which some places have changed. It is long enough for the last of them.
func placed[S ~[]T, T any](before S, changes map[int]T) S {
	size := len(before)
	for i := range changes {
		size = max(size, i+1)
	}
	after := make(S, size)
	copy(after, before)
	for i, v := range changes {
		after[i] = v
	}
	return after
}
