package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// Node is what a wave needs to know about a node that should have a pod.
type Node struct {
	Name   string
	Labels map[string]string
	// Exposed nodes come first: they have been reached, and stay in the waves that are over.
	Exposed bool
	// Down: it does not answer, or is being maintained. It tells nothing about a revision, so it comes last.
	Down bool
}

// Step is a wave, or a part of a wave that is released separately.
type Step struct {
	// Wave is an index of Policy.Waves. Group is the value of its OneAtATime label; empty
	// without one, and for the nodes that lack it, which come last.
	Wave  int
	Group string
	// Quota is how many nodes may have the target in this step, including those of earlier steps.
	Quota int
	// Uncovered are the combinations of Cover that no node of the waves so far has.
	Uncovered []string
}

// Counts summarizes the nodes of a step, without those of earlier steps. Candidates could be granted the
// target now if any number of nodes could be under way.
type Counts struct{ Candidates int }

// Layout is the order in which a release reaches the nodes of a DaemonSet.
type Layout struct {
	Order []string
	Steps []Step
}

// NewLayout ranks nodes. The same nodes of the same DaemonSet always get the same order, whatever the order
// of the input. A node that one wave has picked stays before those of the next.
func NewLayout(p *Policy, uid string, nodes []Node) *Layout {
	all := make([]ranked, len(nodes))
	for i := range nodes {
		all[i] = ranked{Node: &nodes[i], hash: hashOf(uid, nodes[i].Name)}
	}
	left := all // those that no wave has picked yet; the others come before them in all
	l := &Layout{Order: make([]string, 0, len(nodes))}
	for i := range p.Waves {
		w := &p.Waves[i]
		quota := max(len(l.Order), min(max(w.Nodes.Of(len(nodes)), 1), len(nodes)))
		uncovered := w.sort(left, all[:len(l.Order)])
		picked := left[:quota-len(l.Order)]
		left = left[len(picked):]
		l.append(w, i, picked)
		l.Steps[len(l.Steps)-1].Uncovered = lacking(uncovered, picked)
	}
	return l
}

// append adds the nodes that the wave has picked, in its groups.
func (l *Layout) append(w *Wave, index int, picked []ranked) {
	if w.OneAtATime != "" {
		slices.SortStableFunc(picked, func(a, b ranked) int { return byGroup(a.Labels, b.Labels, w.OneAtATime) })
	}
	step := Step{Wave: index, Quota: len(l.Order)}
	for i, n := range picked {
		if group := n.Labels[w.OneAtATime]; w.OneAtATime != "" && group != step.Group {
			if i > 0 {
				l.Steps = append(l.Steps, step)
			}
			step.Group = group
		}
		l.Order = append(l.Order, n.Name)
		step.Quota++
	}
	l.Steps = append(l.Steps, step)
}

// byGroup sorts nodes without the label last.
func byGroup(a, b map[string]string, key string) int {
	if x, y := a[key], b[key]; x != "" && y != "" {
		return cmp.Compare(x, y)
	} else if x != y {
		return cmp.Compare(y, x)
	}
	return 0
}

// ranked is a node and its sort keys, the first field first.
type ranked struct {
	*Node
	preferred, covers bool
	// hash spreads DaemonSets over nodes, so that not every release begins on the same node.
	hash  uint64
	cover string
}

func (a ranked) compare(b ranked) int {
	return cmp.Or(last(!a.Exposed, !b.Exposed), last(a.Down, b.Down), last(!a.preferred, !b.preferred), last(!a.covers, !b.covers),
		cmp.Compare(a.hash, b.hash), cmp.Compare(a.Name, b.Name))
}

func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// sort ranks the nodes that no earlier wave has picked, for this wave. It returns the combinations of Cover
// that the picked ones lack.
func (w *Wave) sort(nodes, picked []ranked) (combinations []string) {
	for i := range nodes {
		n := &nodes[i]
		n.preferred, n.covers, n.cover = w.prefers(n.Labels), false, combination(n.Labels, w.Cover)
	}
	slices.SortFunc(nodes, ranked.compare)
	if len(w.Cover) == 0 {
		return nil
	}
	seen := map[string]bool{}
	for _, n := range picked {
		if !n.Down {
			seen[combination(n.Labels, w.Cover)] = true
		}
	}
	for i := range nodes {
		if n := &nodes[i]; !n.Down && !seen[n.cover] {
			seen[n.cover], n.covers = true, true
			combinations = append(combinations, n.cover)
		}
	}
	slices.SortFunc(nodes, ranked.compare)
	return combinations
}

func (w *Wave) prefers(labels map[string]string) bool {
	for key, value := range w.Prefer {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return len(w.Prefer) > 0
}

// combination returns the values of the keys in the labels, for display.
func combination(labels map[string]string, keys []string) string {
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = cmp.Or(labels[key], "<none>")
	}
	return strings.Join(values, "/")
}

// lacking returns the combinations that none of the nodes has, sorted.
func lacking(combinations []string, picked []ranked) []string {
	left := slices.DeleteFunc(combinations, func(c string) bool {
		return slices.ContainsFunc(picked, func(n ranked) bool { return n.cover == c && !n.Down })
	})
	slices.Sort(left)
	return left
}

func hashOf(uid, node string) uint64 {
	sum := sha256.Sum256([]byte(uid + "/" + node))
	return binary.BigEndian.Uint64(sum[:8])
}

// Step returns the index of the step of that wave and group. If the group no longer exists, it is the next
// one in the wave, or the wave's last: the release does not leave a wave because of that. The layout must
// have the wave.
func (l *Layout) Step(wave int, group string) (index int) {
	for i, s := range l.Steps {
		if s.Wave <= wave {
			index = i
		}
		if s.Wave == wave && byGroupName(s.Group, group) >= 0 {
			break
		}
	}
	return index
}

// passed returns the index of the last step that has at most that many nodes; of the first one, if all have more.
func (l *Layout) passed(nodes int) (index int) {
	for i, s := range l.Steps {
		if s.Quota <= nodes {
			index = i
		}
	}
	return index
}

// Quota returns how many nodes may have the target now: those of the open step, even if the policy has since made it smaller
// than it was when the state was computed.
func (l *Layout) Quota(p *Policy, s *State) int {
	wave := p.wave(s.Wave)
	if l == nil || wave < 0 {
		return s.Quota
	}
	return min(s.Quota, l.Steps[l.Step(wave, s.Group)].Quota)
}

// byGroupName sorts the empty group last.
func byGroupName(a, b string) int {
	return cmp.Or(last(a == "", b == ""), cmp.Compare(a, b))
}
