package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
)

func drawPolicy(t *rapid.T) Policy {
	p := Default()
	p.Waves = nil
	amounts := []plan.Amount{{Value: 1}, {Value: 2}, {Value: 30, Percent: true}, {Value: 50, Percent: true}, {Value: 80, Percent: true}}
	from := 0
	for i := range rapid.IntRange(0, 3).Draw(t, "waves") {
		from = rapid.IntRange(from, len(amounts)-1).Draw(t, "nodes")
		p.Waves = append(p.Waves, Wave{Name: fmt.Sprint("w", i), Nodes: amounts[from], Approval: rapid.Bool().Draw(t, "approval")})
	}
	p.Waves = append(p.Waves, Wave{Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}})
	for i := range p.Waves {
		w := &p.Waves[i]
		w.Soak = time.Duration(rapid.SampledFrom([]int{0, 60, 600}).Draw(t, "soak")) * time.Second
		if rapid.Bool().Draw(t, "grouped") {
			w.OneAtATime = "zone"
		}
		if rapid.Bool().Draw(t, "covers") {
			w.Cover = []string{"zone"}
		}
	}
	p.Failure.Nodes = rapid.SampledFrom([]plan.Amount{{}, {Value: 1}, {Value: 50, Percent: true}}).Draw(t, "failures")
	p.Failure.Back = rapid.Bool().Draw(t, "back")
	if rapid.Bool().Draw(t, "window") {
		p.Windows = []Window{{From: 8*60 + 30, To: 9*60 + rapid.IntRange(10, 50).Draw(t, "to"), Zone: time.UTC}}
	}
	return p
}

// watcher is a dumb twin: it keeps what it has seen, and holds each step to it.
type watcher struct {
	t    *rapid.T
	w    *world
	at   time.Duration // of the last look
	calm time.Duration // in the open step
	soak bool          // the last look was at a step that soaks
	// of the release: it was taken back; it has stopped; so many failures were forgiven.
	back, stopped bool
	forgiven      int
}

func (c *watcher) look(before State, in *Seen) {
	s, w := &c.w.state, c.w
	if c.soak {
		c.calm += w.now - c.at
	}
	if s.Release != before.Release || before.Stable == "" {
		c.calm, c.back, c.stopped, c.forgiven = 0, false, s.Unsure, 0
	} else if s.Target != s.Stable && before.Target != before.Stable {
		c.opened(before, in)
	}
	c.at, c.soak = w.now, s.Phase == Soaking
	c.remember(before, in)
	for what, wrong := range map[string]bool{
		"R1: the quota is more than the open step's":     s.Target != s.Stable && s.Quota > max(quotaOf(before, s), c.quota(in)),
		"R4: grants in another phase":                    s.Grants() && s.Phase != Rolling,
		"R4: grants although a person said to pause":     s.Grants() && in.Requests.Paused,
		"R4: grants outside of the windows":              s.Grants() && !w.policy.Open(w.time()),
		"R5: grants with too many failed, or after that": s.Grants() && c.stopped,
		"R6: grants after an abort":                      s.Grants() && c.back,
		"R11: does not hold":                             in.Problem == StableGone && s.Phase != Held,
		"R11: grants without a policy":                   in.Problem != NoReason && s.Grants(),
		"grants although the API server is not well":     s.Grants() && in.Unwell,
		"tells a person before a pod could have started": s.Phase == Waiting && s.Reason == NoneWell && w.time().Sub(s.Opened) < w.policy.Failure.StartWithin,
		"tells a person and has a node that is well":     s.Phase == Waiting && s.Reason == NoneWell && in.Well > 0,
		"R16: more soak than was seen":                   s.Soaked > c.calm,
		"a release is Idle and has a target":             s.Phase == Idle && s.Target != s.Stable,
		"a new stable revision is not the target":        before.Stable != "" && s.Stable != before.Stable && s.Stable != s.Target,
		"goes back, and nobody said so":                  s.Phase == RollingBack && s.Target != s.Stable && !c.back,
	} {
		if wrong {
			c.t.Fatalf("at %s: %s\nbefore: %+v\nafter:  %+v\nseen: %+v", w.now, what, before, *s, *in)
		}
	}
}

// remember keeps what stops a release for good, and what lets it go on.
func (c *watcher) remember(before State, in *Seen) {
	s, r := &c.w.state, &in.Requests
	if s.Target == s.Stable {
		c.back, c.stopped = false, false
		return
	}
	if before.Stopped && r.Resume == (Resumption{Release: s.Release, Stop: before.Stops}) {
		c.stopped, c.forgiven = false, in.Failed
	}
	c.back = c.back || r.Abort == s.Release
	if in.Problem != NoReason || c.back || c.stopped {
		return
	}
	c.forgiven = min(c.forgiven, in.Failed)
	if c.stopped = in.Failed > c.w.policy.Failure.Allowance(in.Exposed, in.Bound)+c.forgiven; c.stopped {
		c.back = c.w.policy.Failure.Back
	}
}

func quotaOf(before State, s *State) int {
	if before.Release == s.Release {
		return before.Quota
	}
	return 0
}

// quota is that of the open step.
func (c *watcher) quota(in *Seen) int {
	wave := c.w.policy.wave(c.w.state.Wave)
	if wave < 0 {
		return c.w.state.Quota // none is open
	}
	return in.Layout.Steps[in.Layout.Step(wave, c.w.state.Group)].Quota
}

// opened holds R3: what lies between two open steps was passed as it may be.
func (c *watcher) opened(before State, in *Seen) {
	s, p := &c.w.state, &c.w.policy
	from, to := p.wave(before.Wave), p.wave(s.Wave)
	if s.Wave == before.Wave && s.Group == before.Group {
		return
	}
	if from < 0 { // none was open, or the policy has it no longer: then it may not be a larger one
		from, c.calm = in.Layout.Steps[in.Layout.passed(quotaOf(before, s))].Wave, 0
		if from == to {
			return
		}
	}
	if from == to && in.Layout.Steps[in.Layout.Step(from, before.Group)].Group != before.Group {
		c.calm = 0 // the layout has it no longer
		return
	}
	promote := in.Requests.Promote
	if promote.Release != s.Release {
		promote = Promotion{}
	}
	soaked := c.calm
	for wave := from; wave < to; wave++ {
		w := &p.Waves[wave]
		switch {
		case soaked < w.Soak && !promote.All:
			c.t.Fatalf("R3: wave %s was left after %s: %+v", w.Name, soaked, *s)
		case w.Approval && !promote.All && promote.Wave != w.Name:
			c.t.Fatalf("R3: wave %s was left without approval: %+v", w.Name, *s)
		}
		soaked = 0
	}
	if from == to && c.calm < p.Waves[to].Soak && !promote.All {
		c.t.Fatalf("R3: group %s was left after %s: %+v", before.Group, c.calm, *s)
	}
	if !p.Open(c.w.time()) {
		c.t.Fatalf("R3: a step was opened outside of the windows: %+v", *s)
	}
	c.calm = 0
}

// TestReleases plays releases with what the world does to them.
func TestReleases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.policy, w.bound = drawPolicy(t), rapid.IntRange(1, 3).Draw(t, "bound")
		if wrong := w.policy.Check(); wrong != nil {
			t.Fatal(wrong)
		}
		nodes := rapid.IntRange(1, 8).Draw(t, "nodes")
		for i := range nodes {
			name := fmt.Sprintf("n%d", i)
			w.add(name, map[string]string{"zone": rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "zone")})
			w.nodes[name].revision = "a"
		}
		c := &watcher{t: t, w: w}
		w.check = c.look
		w.settle()
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			w.run(w.now + time.Duration(rapid.SampledFrom([]int{0, 5, 30, 120, 900, 3600}).Draw(t, "after"))*time.Second)
			w.disturb(t, fmt.Sprintf("n%d", rapid.IntRange(0, nodes-1).Draw(t, "node")))
			w.settle()
		}
		c.ending()
	})
}

func (w *world) disturb(t *rapid.T, name string) {
	n, r := w.nodes[name], &w.requests
	release := max(0, w.state.Release+rapid.SampledFrom([]int{0, 0, 0, -1, 1}).Draw(t, "release"))
	switch rapid.IntRange(0, 18).Draw(t, "what") {
	case 0, 1, 2:
		w.target = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "revision")
	case 3:
		n.sick, n.sickAt = true, w.now
	case 4:
		n.sick = false
	case 5:
		n.Down = !n.Down
	case 6:
		r.Paused = !r.Paused
	case 7, 8:
		r.Promote = Promotion{Release: release, Wave: rapid.SampledFrom([]string{"w0", "w1", "all"}).Draw(t, "wave")}
	case 9:
		r.Promote = Promotion{Release: release, Wave: "*", All: true}
	case 10:
		r.Abort = release
	case 11:
		r.Resume = Resumption{Release: release, Stop: rapid.IntRange(0, 3).Draw(t, "stop")}
	case 12:
		w.unwell = !w.unwell
	case 13, 14:
		w.problem = rapid.SampledFrom([]Reason{NoReason, PolicyGone, StableGone}).Draw(t, "problem")
	case 15:
		w.state = w.state.Kept()
		w.now += time.Minute
	case 16:
		*r = Requests{}
	case 17:
		r.Retry = release
	case 18:
		if last := len(w.policy.Waves) - 1; last > 0 {
			i := rapid.IntRange(0, last-1).Draw(t, "without")
			w.policy.Waves = slices.Delete(slices.Clone(w.policy.Waves), i, i+1)
		}
	}
}

// ending takes everything away that holds a release up: it ends.
func (c *watcher) ending() {
	w := c.w
	w.requests, w.problem, w.unwell, w.policy.Windows = Requests{}, NoReason, false, nil
	for _, n := range w.nodes {
		n.Down, n.sick = false, false
	}
	w.run(w.now + time.Hour) // the failed ones are well again
	w.requests = Requests{Resume: Resumption{Release: w.state.Release, Stop: w.state.Stops}, Retry: w.state.Release}
	w.settle()
	w.requests.Promote = Promotion{Release: w.state.Release, Wave: "*", All: true}
	w.run(w.now + time.Hour)
	if s := &w.state; s.Phase != Idle || s.Stable != w.target {
		c.t.Fatalf("in the end: %+v", *s)
	}
}

// What is ignored changes nothing but what is said of it (R8): what is about another release, whichever phase this one is in.
func TestIgnoredRequestsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.policy = drawPolicy(t)
		for i := range 5 {
			w.add(fmt.Sprint("n", i), nil)
			w.nodes[fmt.Sprint("n", i)].revision = "a"
		}
		w.settle()
		w.state.Release = rapid.IntRange(0, 3).Draw(t, "releases before")
		w.target, w.bad["b"] = "b", rapid.Bool().Draw(t, "bad")
		w.run(time.Duration(rapid.IntRange(0, 3600).Draw(t, "after")) * time.Second)
		in := w.seen()
		plain, wake := Advance(&w.policy, w.state, in, w.time())
		other := rapid.SampledFrom([]int{-1, 1}).Draw(t, "release") + plain.Release
		in.Requests = Requests{Promote: Promotion{Release: other, Wave: "all", All: rapid.Bool().Draw(t, "all")}, Abort: other, Retry: other, Plain: other,
			Resume: Resumption{Release: other, Stop: plain.Stops}}
		asked, again := Advance(&w.policy, w.state, in, w.time())
		if asked.Ignored == "" && other > 0 {
			t.Fatalf("nothing is said of what was ignored: %+v", asked)
		}
		in.Heeded = in.Requests
		if stay, _ := Advance(&w.policy, w.state, in, w.time()); stay.Ignored != plain.Ignored && other < plain.Release {
			t.Fatalf("requests that were heeded in their time are reported: %+v", stay)
		}
		asked.Ignored = plain.Ignored
		if asked != plain || !wake.Equal(again) {
			t.Fatalf("with requests for another release: %+v, without: %+v", asked, plain)
		}
	})
}

// The same nodes have the same order, in whatever order they are given (R2), and each is in it once. Steps
// go up to all nodes, and a wave covers what it can.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		var nodes []Node
		for i := range rapid.IntRange(0, 12).Draw(t, "nodes") {
			nodes = append(nodes, Node{Name: fmt.Sprint("n", i), Down: rapid.IntRange(0, 4).Draw(t, "down") == 0, Exposed: rapid.IntRange(0, 4).Draw(t, "exposed") == 0,
				Labels: map[string]string{"zone": rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "zone")}})
		}
		l := NewLayout(&p, "uid", nodes)
		shuffled := slices.Clone(nodes)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if other := NewLayout(&p, "uid", shuffled); !slices.Equal(l.Order, other.Order) {
			t.Fatalf("R2: %v, and in another order %v", l.Order, other.Order)
		}
		exposed := 0
		for _, n := range nodes {
			if n.Exposed {
				exposed++
			}
		}
		first := slices.IndexFunc(l.Steps, func(s Step) bool { return s.Quota >= exposed })
		for first+1 < len(l.Steps) && l.Steps[first+1].Wave == l.Steps[first].Wave {
			first++ // the groups of a wave have an order of their own
		}
		for _, n := range nodes {
			if n.Exposed && !slices.Contains(l.Order[:l.Steps[first].Quota], n.Name) {
				t.Fatalf("%s is exposed, and not in the first wave that has room, of %d: %v", n.Name, l.Steps[first].Quota, l.Order)
			}
		}
		names := slices.Clone(l.Order)
		slices.Sort(names)
		if len(slices.Compact(names)) != len(nodes) || l.Steps[len(l.Steps)-1].Quota != len(nodes) {
			t.Fatalf("%d nodes, order %v, steps %+v", len(nodes), l.Order, l.Steps)
		}
		for i, s := range l.Steps {
			if i > 0 && (s.Quota < l.Steps[i-1].Quota || s.Wave < l.Steps[i-1].Wave) {
				t.Fatalf("steps: %+v", l.Steps)
			}
			if at := l.Step(s.Wave, s.Group); at != i {
				t.Fatalf("step %d is found at %d: %+v", i, at, l.Steps)
			}
			covers(t, &p, nodes, l, i)
		}
	})
}

// covers holds a wave to its Cover: it leaves out a combination only where another has the room.
func covers(t *rapid.T, p *Policy, nodes []Node, l *Layout, step int) {
	s := l.Steps[step]
	if len(p.Waves[s.Wave].Cover) == 0 || step+1 < len(l.Steps) && l.Steps[step+1].Wave == s.Wave {
		return
	}
	has, there := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		if zone := combination(n.Labels, []string{"zone"}); !n.Down {
			there[zone] = true
			if slices.Contains(l.Order[:s.Quota], n.Name) {
				has[zone] = true
			}
		}
	}
	if len(s.Uncovered) != len(there)-len(has) {
		t.Fatalf("wave %d says that it leaves out %q; it has %v of %v", s.Wave, s.Uncovered, has, there)
	}
	begin := 0
	for i := step; i > 0 && begin == 0; i-- {
		if l.Steps[i-1].Wave != s.Wave {
			begin = l.Steps[i-1].Quota
		}
	}
	room := s.Quota - begin // but for what was there already
	for _, n := range nodes {
		if n.Exposed && slices.Contains(l.Order[begin:s.Quota], n.Name) {
			room--
		}
	}
	if len(has) < len(there) && room > len(has) {
		t.Fatalf("wave %d picks %v of %v, and covers %v of %v", s.Wave, l.Order[begin:s.Quota], l.Order, has, there)
	}
}
