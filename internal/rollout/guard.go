package rollout

// Whether pods may go that labels or the placement no longer admit (R10): a share of those that run within an hour, or
// what a person allows, and of an edit that goes too far none. Which pods that are is package plan's to say.

import "time"

// Guard is what is kept of the pods that edits of labels, or of a template's placement, have taken away. The zero
// value is that of a DaemonSet from which nothing was taken.
type Guard struct {
	// Taken are those of the last hour, the oldest first, and those of before that were not cleared away yet.
	Taken []Taken
	// Held is how many nodes would lose their pods and wait for a person; zero: none.
	Held int
	// Used is how many nodes have lost their pods by the allowance that ends at Before.
	Used   int
	Before time.Time
}

// Taken is how many nodes were let lose their pods in the ten minutes from From on.
type Taken struct {
	From  time.Time
	Nodes int
}

// Allowance lets so many nodes lose their pods until Before, whatever the policy says. The zero value is none.
type Allowance struct {
	Nodes  int
	Before time.Time
}

// Removals is what is seen of the pods that labels and the placement have no place for.
type Removals struct {
	// Running is how many nodes have a pod, Pending how many of them would lose it.
	Running, Pending int
	// Grew is when Pending last grew.
	Grew    time.Time
	Allowed Allowance
}

const (
	// guardSpan is the time for which Policy.Removals counts, and takenSpan what is kept as one.
	guardSpan = time.Hour
	takenSpan = 10 * time.Minute
	// LetsFor is for how long those that are let go may go. What has not gone by then, because others refuse it, is
	// pending again. What is taken counts for as long after that as it might have gone.
	LetsFor = 8 * time.Minute
	goes    = LetsFor + 2*time.Minute
	// guardRest is how long no node must have come to be pending before any of them loses its pod: an edit of many
	// nodes comes one node after the other.
	guardRest = 10 * time.Second
)

// Guard says whether all the nodes that are pending may lose their pods now, what is to be kept before they do, and
// when to ask again if nothing else changes (zero: never). More than the policy allows within an hour never go, but by an
// allowance (R10). It is all of them or none: of an edit that goes too far nothing is carried out. And once nodes are held
// they stay so until a person allows it or nothing is pending: who puts labels back does that one node after the other, and
// the last ones must not go for being few.
func (p *Policy) Guard(g Guard, in *Removals, now time.Time) (next Guard, lets bool, wake time.Time) {
	if next, lets, wake = p.judge(g, in, now); !lets && next.Held == g.Held {
		next = g // entries that have expired are dropped with the next write, not by one of their own
	}
	return next, lets, wake
}

func (p *Policy) judge(g Guard, in *Removals, now time.Time) (next Guard, lets bool, wake time.Time) {
	next = g.since(now)
	switch {
	case in.Pending == 0:
		next.Held = 0
		return next, false, time.Time{}
	case g.Held == 0 && next.taken()+in.Pending <= p.MayRemove(in.Running):
		if rest := in.Grew.Add(guardRest); rest.After(now) {
			return next, false, rest
		}
		next.take(in.Pending, now)
		return next, true, time.Time{}
	case next.allows(in, now):
		next.use(in)
		return next, true, time.Time{}
	}
	next.Held = in.Pending
	return next, false, time.Time{}
}

// MayRemove is how many of so many nodes may lose their pods in an hour: a share is rounded down, but never to none.
func (p *Policy) MayRemove(running int) int {
	if !p.Removals.Percent {
		return p.Removals.Value
	}
	return max(p.Removals.Value*running/100, min(p.Removals.Value, 1))
}

// since is the guard without what was taken too long ago to count. It shares nothing with the one of before.
func (g Guard) since(now time.Time) Guard {
	taken := g.Taken
	g.Taken = nil
	for _, t := range taken {
		if t.From.Add(takenSpan + guardSpan + goes).After(now) {
			g.Taken = append(g.Taken, t)
		}
	}
	return g
}

func (g *Guard) taken() (n int) {
	for _, t := range g.Taken {
		n += t.Nodes
	}
	return n
}

func (g *Guard) take(n int, now time.Time) {
	last := len(g.Taken) - 1
	if last < 0 || !now.Before(g.Taken[last].From.Add(takenSpan)) {
		g.Taken, last = append(g.Taken, Taken{From: now}), last+1
	}
	g.Taken[last].Nodes += n
}

// allows says that a person lets so many go.
func (g *Guard) allows(in *Removals, now time.Time) bool {
	used := 0
	if g.Before.Equal(in.Allowed.Before) {
		used = g.Used
	}
	return now.Before(in.Allowed.Before) && used+in.Pending <= in.Allowed.Nodes
}

// use counts them.
func (g *Guard) use(in *Removals) {
	if !g.Before.Equal(in.Allowed.Before) {
		g.Used, g.Before = 0, in.Allowed.Before
	}
	g.Used, g.Held = g.Used+in.Pending, 0
}
