package sim

import (
	"slices"
	"time"

	"everynode/internal/rollout"
)

// leaves checks what a process has worked out, against the state that it knows to be kept (R3): a wave, or a group of it, is left
// only when it has soaked, as far as anybody has watched, was approved, and while a window is open. No wave is left out.
func (l *memo) leaves(c *controller, next *rollout.State) {
	was, p, steps := &l.state, c.policy(), c.course.layout
	if c.index.policy == nil || !c.course.kept || steps == nil || next.Release != was.Release || was.Target == was.Stable || was.Opened.IsZero() {
		return
	}
	ask := requestsAbout(c, was.Release)
	from, to := indexOf(p, was.Wave), indexOf(p, next.Wave)
	if next.Target == next.Stable {
		to = len(p.Waves)
	}
	if ask.Plain != 0 || from < 0 || to == from && next.Group == was.Group {
		return
	}
	at := steps.Step(from, was.Group)
	if steps.Steps[at].Group != was.Group {
		return // no node has that label any more
	}
	soaked := was.Soaked
	if was.Phase == rollout.Soaking {
		soaked += c.w.now - l.at
	}
	passes(c.w, p, ask.Promote, from, to, soaked)
	split := at+1 < len(steps.Steps) && steps.Steps[at+1].Wave == from
	switch {
	case to < from:
		c.w.fail("R3: wave %s comes after %s", next.Wave, was.Wave)
	case to > from && split && p.Waves[from].Soak > 0 && !ask.Promote.All:
		c.w.fail("R3: wave %s is left with group %q; %q is still to come", was.Wave, was.Group, steps.Steps[at+1].Group)
	case at+1 < len(steps.Steps) && !p.Open(c.clock()):
		c.w.fail("R3: wave %s is left while no window is open", was.Wave)
	}
}

// passes checks that each wave that is left has soaked, and was approved. Of several waves, all but the first have had no time.
func passes(world *world, p *rollout.Policy, promote rollout.Promotion, from, to int, soaked time.Duration) {
	for i := from; i < max(to, from+1) && !promote.All; i++ {
		w := &p.Waves[i]
		switch {
		case soaked < w.Soak:
			world.fail("R3: wave %s is left; it has soaked for %v at most, of %v", w.Name, soaked, w.Soak)
		case to > i && w.Approval && promote.Wave != w.Name:
			world.fail("R3: wave %s is left, and nobody has approved that", w.Name)
		}
		soaked = 0
	}
}

// widens checks that the quota is at most that of the open wave, whatever nodes there are, or has not grown (R1).
func (l *memo) widens(c *controller, next *rollout.State) {
	was, p, most := &l.state, c.policy(), 0
	wave := indexOf(p, next.Wave)
	if !c.course.kept || was.Stable == "" || wave < 0 {
		return
	}
	if was.Release == next.Release {
		most = was.Quota
	}
	for i := range wave + 1 {
		most = max(most, 1, p.Waves[i].Nodes.Of(c.w.sc.nodesEver()))
	}
	if next.Quota > most {
		c.w.fail("R1: the quota is %d in wave %s, in which at most %d nodes may have %s", next.Quota, next.Wave, most, next.Target)
	}
}

// requestsAbout returns the requests that the process knows, without those about other releases.
func requestsAbout(c *controller, number int) rollout.Requests {
	if c.index.keeper == nil {
		return rollout.Requests{}
	}
	return about(c.index.keeper.requests, number)
}

// indexOf returns the index of the wave with that name; -1: there is none.
func indexOf(p *rollout.Policy, name string) int {
	return slices.IndexFunc(p.Waves, func(w rollout.Wave) bool { return w.Name == name })
}
