package forecast

import (
	"slices"
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Whole returns what happens on all nodes if the change goes in these waves, which are those of Waves. Took is the time
// until the last wave has ended. If the policy's guard holds pods of a wave, the release stops there, and Left has the nodes
// that it does not reach. Status is not set.
func Whole(in *Input, p *rollout.Policy, waves []Wave) *Forecast {
	f := &Forecast{}
	f.Left, _ = Guarded(in, p)
	held, elsewhere := map[string]bool{}, map[string]bool{}
	for i := range f.Left {
		held[f.Left[i].Node], elsewhere[f.Left[i].Node] = true, true
	}
	for i := range waves {
		w := &waves[i]
		for _, name := range w.moved {
			elsewhere[name] = true
		}
		f.play(w, held, func(after time.Duration) time.Duration { return within(p, w.Opens, after).Sub(in.Now) })
		if f.Stopped == "" && slices.ContainsFunc(w.course.Steps, func(s Step) bool { return held[s.Node] }) {
			f.Stopped = strings.Trim(w.Name+"/"+w.Group, "/")
		}
		if f.Stopped == "" {
			f.Took = w.Ends.Sub(in.Now)
		}
	}
	all := func(string) bool { return true }
	rest := Play(in.part(func(name string) bool { return !elsewhere[name] }, in.desired(all)))
	f.add(rest, held, func(after time.Duration) time.Duration { return after })
	f.Took = max(f.Took, rest.Took)
	inOrder(f.Steps)
	slices.SortFunc(f.Left, func(a, b Left) int { return strings.Compare(a.Node, b.Node) })
	return f
}

// play adds the wave, if the release reaches it. at turns its times into those of the whole.
func (f *Forecast) play(w *Wave, held map[string]bool, at func(time.Duration) time.Duration) {
	if f.Stopped == "" {
		f.add(w.course, held, at)
		return
	}
	for i := range w.course.Steps {
		if s := &w.course.Steps[i]; s.Ended {
			f.leave(Left{Node: s.Node, Reason: plan.AwaitsWave}, held)
		}
	}
	for _, l := range w.course.Left {
		f.leave(l, held)
	}
}

// add adds what happens on other nodes, except those that are held.
func (f *Forecast) add(part *Forecast, held map[string]bool, at func(time.Duration) time.Duration) {
	for _, s := range part.Steps {
		if !held[s.Node] {
			s.Begins, s.Ends = at(s.Begins), at(s.Ends)
			f.Steps, f.Took = append(f.Steps, s), max(f.Took, s.Ends)
		}
	}
	for _, l := range part.Left {
		f.leave(l, held)
	}
	f.MostDown, f.Endless = max(f.MostDown, part.MostDown), f.Endless || part.Endless
}

// leave adds a node that the change does not reach. Left has the held ones from the start.
func (f *Forecast) leave(l Left, held map[string]bool) {
	if !held[l.Node] {
		f.Left = append(f.Left, l)
	}
}

// Guarded returns the nodes whose pods the policy's guard holds, sorted by name, and how many pods it lets go within an
// hour. It holds either all that it can hold, or none. Another controller would remove the pods itself.
func Guarded(in *Input, p *rollout.Policy) (held []Left, may int) {
	may = p.MayRemove(running(in.Pods))
	if in.Assisted {
		return nil, may
	}
	if held = Held(in); len(held) <= may {
		return nil, may
	}
	return held, may
}

// running is how many nodes have a running pod.
func running(pods []plan.Pod) int {
	nodes := map[string]bool{}
	for i := range pods {
		if p := &pods[i]; p.Bound && p.Deleted.IsZero() && p.Phase == plan.Running {
			nodes[p.Node] = true
		}
	}
	return len(nodes)
}
