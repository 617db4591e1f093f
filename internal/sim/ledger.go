package sim

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"everynode/internal/plan"
)

// ledger keeps a plan.Ledger beside a controller's decisions, as package engine does: it looks at a node only
// when something has changed there, or when the node is due. Whatever happens in the cluster, it must decide
// what plan.Make decides.
type ledger struct {
	set     plan.Spec
	release *plan.Release
	guard   *plan.Guard
	kept    plan.Ledger
	seen    map[string]sight
	creates map[string][]plan.Create
	deletes map[string][]plan.Delete
	changes map[string][]plan.Change
}

// sight is what was last seen of a node.
type sight struct {
	node    *plan.Node
	pods    []plan.Pod
	gone    bool
	backoff plan.Backoff
	waits   []plan.Wait
	left    bool
	reached int
	refused plan.Refusal
}

func (s *sight) same(o *sight) bool {
	return s.gone == o.gone && s.backoff == o.backoff && slices.Equal(s.waits, o.waits) && s.left == o.left && s.reached == o.reached && s.refused == o.refused && slices.Equal(s.pods, o.pods) && reflect.DeepEqual(s.node, o.node)
}

// follow looks at the nodes that differ from the last decision's input.
func (l *ledger) follow(in *plan.Input) {
	now := l.sights(in)
	if l.seen == nil || !reflect.DeepEqual(l.set, in.Set) {
		l.set = in.Set
		l.kept.Reset(in.Set)
		l.release, l.guard = nil, nil
		l.seen, l.creates, l.deletes, l.changes = map[string]sight{}, map[string][]plan.Create{}, map[string][]plan.Delete{}, map[string][]plan.Change{}
	}
	if !reflect.DeepEqual(l.release, in.Release) || !reflect.DeepEqual(l.guard, in.Guard) {
		// The revision of any node, or the pods that may be removed from it, may have changed.
		l.release, l.guard = in.Release, in.Guard
		l.kept.Follow(in.Release)
		l.kept.Guard(in.Guard)
		for name := range l.seen {
			if s, is := now[name]; is {
				l.seen[name] = sight{gone: !s.gone}
			}
		}
	}
	look := l.kept.Due(in.Now, nil)
	for name := range l.seen {
		if _, is := now[name]; !is {
			look = append(look, name)
		}
	}
	for name, s := range now {
		if old, was := l.seen[name]; !was || !s.same(&old) {
			look = append(look, name)
		}
	}
	l.seen = now
	for _, name := range look {
		l.look(in, name)
	}
	l.kept.Settle(func(v *plan.Verdict) {
		l.creates[v.Node], l.deletes[v.Node], l.changes[v.Node] = slices.Clone(v.Creates()), slices.Clone(v.Deletes()), slices.Clone(v.Changes())
	})
}

func (l *ledger) look(in *plan.Input, name string) {
	s := l.seen[name]
	all := plan.Sight{Name: name, Node: s.node, Gone: s.gone, Backoff: s.backoff, Waits: s.waits, Left: s.left, Reached: s.reached, Refused: s.refused}
	for i := range s.pods {
		all.Pods = append(all.Pods, &s.pods[i])
	}
	l.kept.Look(in.Now, all)
}

func (l *ledger) sights(in *plan.Input) map[string]sight {
	all := map[string]sight{}
	for i := range in.Nodes {
		n := in.Nodes[i]
		all[n.Name] = sight{node: &n}
	}
	for _, p := range in.Pods {
		if p.Node != "" {
			s := all[p.Node]
			s.pods = append(s.pods, p)
			all[p.Node] = s
		}
	}
	for name, s := range all {
		s.refused = in.Refused[name]
		slices.SortFunc(s.pods, func(a, b plan.Pod) int { return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Name, b.Name)) })
		s.gone, s.backoff, s.waits, s.left, s.reached = in.Gone[name], in.Backoff[name], in.Waits[name], in.Left[name], in.Reached[name]
		all[name] = s
	}
	return all
}

// differs reports whether the ledger's plan is another one.
func (l *ledger) differs(out *plan.Plan) bool {
	var creates []plan.Create
	var deletes []plan.Delete
	var changes []plan.Change
	for _, name := range slices.Sorted(maps.Keys(l.creates)) {
		creates, deletes, changes = append(creates, l.creates[name]...), append(deletes, l.deletes[name]...), append(changes, l.changes[name]...)
	}
	return l.kept.Totals().Guarded != out.Guarded || !slices.Equal(creates, out.Creates) || !slices.Equal(deletes, out.Deletes) || !slices.Equal(changes, out.Changes) ||
		l.kept.Status() != out.Status || !sameExposure(l.kept.Totals().Exposure, out.Exposure) || !l.kept.WakeAt().Equal(out.WakeAt)
}

func sameExposure(a, b plan.Exposure) bool {
	reachable := slices.Equal(a.Reachable, b.Reachable)
	a.Reachable, b.Reachable = nil, nil
	return reachable && reflect.DeepEqual(a, b)
}
