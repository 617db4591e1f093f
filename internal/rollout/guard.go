package rollout

// Whether pods that labels or the placement no longer admit may go (R10): a share of the running pods per hour, or as
// many as a person allows, and none if an edit would take more. Package plan says which pods those are.

import "time"

// Guard records the pods that edits of labels, or of a template's placement, have taken away. The zero value means that
// nothing was taken.
type Guard struct {
	// Taken are those of the last hour, the oldest first, and older ones that were not dropped yet.
	Taken []Taken
	// Of is how many nodes had a pod before those were taken. A share that shrank with every pod that it lets go would hold
	// the last ones of an edit that it allows.
	Of int
	// Held is how many nodes would lose their pods and wait for a person; zero: none.
	Held int
	// Used is how many nodes have lost their pods under the allowance that ends at Before.
	Used   int
	Before time.Time
}

// Taken is how many nodes were allowed to lose their pods in the ten minutes from From on.
type Taken struct {
	From  time.Time
	Nodes int
}

// Allowance lets this many nodes lose their pods until Before, whatever the policy says. The zero value allows none.
type Allowance struct {
	Nodes  int
	Before time.Time
}

// Removals is what is seen of the pods that labels and the placement no longer admit.
type Removals struct {
	// Running is how many nodes have a pod, Pending how many of them would lose it, and Due how many of these would lose it
	// at once. The others wait for their turn anyway.
	Running, Pending, Due int
	// Grew is when Pending last grew.
	Grew    time.Time
	Allowed Allowance
}

const (
	// guardSpan is the time over which Policy.Removals counts, and takenSpan the time that one entry covers.
	guardSpan = time.Hour
	takenSpan = 10 * time.Minute
	// LetsFor is how long released pods may go. A pod that has not gone by then, because something refuses it, is
	// pending again. Taken pods keep counting that much longer, because they might have gone late.
	LetsFor = 8 * time.Minute
	goes    = LetsFor + 2*time.Minute
	// guardRest is how long the number of pending nodes must not have grown before any of them loses its pod: an edit
	// of many nodes arrives one node after the other.
	guardRest = 10 * time.Second
)

// Guard returns whether the nodes that are due may lose their pods now, the state to save before they do, and when to ask
// again if nothing else changes (zero: never). Within an hour no more go than the policy allows, except by an allowance
// (R10). It is all of the pending nodes or none: if an edit goes too far, none of it is carried out. Nodes whose turn has
// not come count as pending, and as taken only once it has. Once nodes are held, they stay held until a person allows it
// or nothing is pending: labels are put back one node after the other, and the last ones must not go just because they are
// few.
func (p *Policy) Guard(g Guard, in *Removals, now time.Time) (next Guard, lets bool, wake time.Time) {
	if next, lets, wake = p.judge(g, in, now); !lets && next.Held == g.Held {
		next = g // expired entries are dropped with the next write, not by a separate one
	}
	return next, lets, wake
}

func (p *Policy) judge(g Guard, in *Removals, now time.Time) (next Guard, lets bool, wake time.Time) {
	next = g.since(now)
	within := g.Held == 0 && next.taken()+in.Pending <= p.MayRemove(in.Running)
	switch rest := in.Grew.Add(guardRest); {
	case in.Pending == 0:
		next.Held = 0
		return next, false, time.Time{}
	case !within && !next.allows(in, now):
		next.Held = in.Pending
		return next, false, time.Time{}
	case rest.After(now):
		if g.Held > 0 {
			next.Held = in.Pending
		}
		return next, false, rest
	case within && in.Due > 0:
		next.take(in, now)
	case !within:
		next.use(in)
	}
	return next, in.Due > 0, time.Time{}
}

// MayRemove returns how many of the running nodes may lose their pods in an hour: a share is rounded down, but never to
// zero.
func (p *Policy) MayRemove(running int) int {
	if !p.Removals.Percent {
		return p.Removals.Value
	}
	return max(p.Removals.Value*running/100, min(p.Removals.Value, 1))
}

// since returns the guard without entries that are too old to count. It shares no memory with the original.
func (g Guard) since(now time.Time) Guard {
	taken := g.Taken
	g.Taken = nil
	for _, t := range taken {
		if t.From.Add(takenSpan + guardSpan + goes).After(now) {
			g.Taken = append(g.Taken, t)
		}
	}
	if len(g.Taken) == 0 {
		g.Of = 0
	}
	return g
}

func (g *Guard) taken() (n int) {
	for _, t := range g.Taken {
		n += t.Nodes
	}
	return n
}

func (g *Guard) take(in *Removals, now time.Time) {
	last := len(g.Taken) - 1
	if last < 0 {
		g.Of = in.Running
	}
	if last < 0 || !now.Before(g.Taken[last].From.Add(takenSpan)) {
		g.Taken, last = append(g.Taken, Taken{From: now}), last+1
	}
	g.Taken[last].Nodes += in.Due
}

// allows reports whether a person lets this many go.
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
	g.Used, g.Held = g.Used+in.Due, 0
}
