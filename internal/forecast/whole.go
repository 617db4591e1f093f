package forecast

import (
	"slices"
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Whole returns what happens on all nodes if the change goes in these waves, which are those of Waves. The policy's guard
// keeps pods where they are: they are in Left. Took is the time until the last wave has ended. Status is not set.
func Whole(in *Input, p *rollout.Policy, waves []Wave) *Forecast {
	held, _ := Guarded(in, p)
	f := &Forecast{Left: held}
	elsewhere := map[string]bool{} // nodes that are in a wave or held
	for i := range held {
		elsewhere[held[i].Node] = true
	}
	for i := range waves {
		w := &waves[i]
		for _, name := range w.moved {
			elsewhere[name] = true
		}
		f.add(w.course, func(after time.Duration) time.Duration { return within(p, w.Opens, after).Sub(in.Now) })
		f.Took = w.Ends.Sub(in.Now)
	}
	rest := Play(in.part(func(name string) bool { return !elsewhere[name] }, len(eligible(in))))
	f.add(rest, func(after time.Duration) time.Duration { return after })
	f.Took = max(f.Took, rest.Took)
	inOrder(f.Steps)
	slices.SortFunc(f.Left, func(a, b Left) int { return strings.Compare(a.Node, b.Node) })
	return f
}

// add adds what happens on other nodes. at turns its times into those of the whole.
func (f *Forecast) add(part *Forecast, at func(time.Duration) time.Duration) {
	for _, s := range part.Steps {
		s.Begins, s.Ends = at(s.Begins), at(s.Ends)
		f.Steps = append(f.Steps, s)
	}
	f.Left = append(f.Left, part.Left...)
	f.MostDown, f.Endless = max(f.MostDown, part.MostDown), f.Endless || part.Endless
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
