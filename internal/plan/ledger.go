package plan

import (
	"container/heap"
	"time"
)

// Ledger is a plan that is kept node by node. Call Look for every node that has changed and every
// node that is Due, and the Ledger holds what Make would return for the whole snapshot, at the
// cost of only those nodes. The zero value has no nodes; it is not safe for concurrent use.
type Ledger struct {
	in      Input // what Classify reads besides the node: Nodes and Pods are always empty
	slots   map[string]*slot
	totals  Totals
	queues  [kinds]queue
	due     schedule
	touched []*slot // looked at, or moved, since the last Settle
}

// slot is the verdict of one node and its positions in the heaps.
type slot struct {
	Verdict
	place   int // in its queue, while it is a candidate
	turn    int // in the schedule, while it has an Until
	touched bool
}

// Sight is everything that is known about one node at an instant: what Input holds under its name.
// Node is nil if there is no such node; Gone if that is certain. Pods are all pods whose Pod.Node
// is Name; Look sorts them, and keeps none of them.
type Sight struct {
	Name    string
	Node    *Node
	Pods    []*Pod
	Gone    bool
	Backoff Backoff
	Waits   []Wait
	Left    bool
	// Reached is Input.Reached; zero: none.
	Reached int
	// Refused is Input.Refused.
	Refused Refusal
}

// Reset starts over: no node has been looked at.
func (l *Ledger) Reset(set Spec) {
	*l = Ledger{
		in: Input{Set: set, Gone: map[string]bool{}, Backoff: map[string]Backoff{},
			Waits: map[string][]Wait{}, Left: map[string]bool{}, Reached: map[string]int{}, Refused: map[string]Refusal{}},
		slots:   make(map[string]*slot, len(l.slots)),
		touched: l.touched[:0],
	}
	for kind := range l.queues {
		l.queues[kind].granted.last = true
	}
}

// Follow sets how far a release may go from now on; nil: there is no release. Its effect on the
// budget begins with the next Settle. The revision of a node is decided when the node is looked at
// again. If the release differs from the last one only in what may be granted, in Ranks and in
// Quota, these are the nodes that have come under the quota or have left it; otherwise all nodes.
func (l *Ledger) Follow(r *Release) {
	before := l.in.Release
	l.in.Release = r
	if before == nil || r == nil || before.Grants == r.Grants {
		return
	}
	for kind := range l.queues {
		for _, v := range l.queues[kind].waiting.slots {
			v.Reason = v.moves(&l.in)
			l.touch(v)
		}
	}
}

// Follows returns the release that was last given to Follow.
func (l *Ledger) Follows() *Release { return l.in.Release }

// Look decides for one node. Whether a candidate may move is only known after the next Settle.
func (l *Ledger) Look(now time.Time, s Sight) {
	v := l.slots[s.Name]
	if v == nil {
		if s.Node == nil && len(s.Pods) == 0 {
			return
		}
		v = &slot{Verdict: Verdict{Node: s.Name}}
		l.slots[s.Name] = v
	}
	l.touch(v)
	l.withdraw(v)
	if s.Node == nil && len(s.Pods) == 0 {
		v.Verdict = Verdict{Node: s.Name}
		delete(l.slots, s.Name)
		return
	}
	l.in.Now = now
	l.in.know(&s)
	Classify(&l.in, s.Name, s.Node, s.Pods, &v.Verdict)
	l.in.forget()
	if v.empty() {
		delete(l.slots, s.Name)
		return
	}
	l.enter(v)
}

// know and forget surround a look at one node: they set and clear what is known about it besides
// the node and its pods.
func (in *Input) know(s *Sight) {
	if s.Gone {
		in.Gone[s.Name] = true
	}
	if s.Backoff != (Backoff{}) {
		in.Backoff[s.Name] = s.Backoff
	}
	if len(s.Waits) > 0 {
		in.Waits[s.Name] = s.Waits
	}
	if s.Left {
		in.Left[s.Name] = true
	}
	if s.Reached != 0 {
		in.Reached[s.Name] = s.Reached
	}
	if s.Refused != (Refusal{}) {
		in.Refused[s.Name] = s.Refused
	}
}

func (in *Input) forget() {
	clear(in.Gone)
	clear(in.Backoff)
	clear(in.Waits)
	clear(in.Left)
	clear(in.Reached)
	clear(in.Refused)
}

// empty reports whether the node has no pod and should have none. Nothing is kept about such a
// node, since a cluster may have many DaemonSets that select only a few nodes each.
func (v *Verdict) empty() bool {
	return !v.Desired && !v.Current && !v.Misscheduled && !v.counted && v.Pod == "" &&
		!v.acts() && v.Until.IsZero() && v.release == (standing{})
}

// enter adds a verdict to the sums, withdraw subtracts it.
func (l *Ledger) enter(v *slot) {
	l.totals.Add(&v.Verdict)
	if v.Candidate() {
		v.Reason = v.moves(&l.in)
		heap.Push(&l.queues[v.candidate].waiting, v)
	}
	if !v.Until.IsZero() {
		heap.Push(&l.due, v)
	}
}

func (l *Ledger) withdraw(v *slot) {
	l.totals.Remove(&v.Verdict)
	if q := &l.queues[v.candidate]; v.granted {
		heap.Remove(&q.granted, v.place)
	} else if v.Candidate() {
		heap.Remove(&q.waiting, v.place)
	}
	if !v.Until.IsZero() {
		heap.Remove(&l.due, v.turn)
	}
}

func (l *Ledger) touch(v *slot) {
	if !v.touched {
		v.touched = true
		l.touched = append(l.touched, v)
	}
}

// Settle decides which candidates move, as Roll does, and then calls see with every verdict that
// may have changed since the last Settle. The verdict of a node that no longer exists has only a
// name. Verdicts are valid until their node is looked at again.
func (l *Ledger) Settle(see func(*Verdict)) {
	rooms := l.in.rooms(&l.totals)
	for _, kind := range inTurn() {
		q := &l.queues[kind]
		q.grant(&l.in, rooms.take(kind, q.len()), l.touch)
	}
	for _, v := range l.touched {
		v.touched = false
		see(&v.Verdict)
	}
	clear(l.touched)
	l.touched = l.touched[:0]
}

// Due appends to names those of the nodes that must be looked at because time
// alone has changed their verdict.
func (l *Ledger) Due(now time.Time, names []string) []string { return l.due.until(now, 0, names) }

// until walks down from the i-th element: in a heap, elements that are due are above those that
// are not.
func (s schedule) until(now time.Time, i int, names []string) []string {
	if i >= len(s) || s[i].Until.After(now) {
		return names
	}
	names = append(names, s[i].Node)
	names = s.until(now, 2*i+1, names)
	return s.until(now, 2*i+2, names)
}

// WakeAt returns when the first node is due; zero when none ever is.
func (l *Ledger) WakeAt() time.Time {
	if len(l.due) == 0 {
		return time.Time{}
	}
	return l.due[0].Until
}

// Status returns the status as of the last Settle.
func (l *Ledger) Status() Status { return l.totals.Status }

// Totals returns the sums over all verdicts as of the last Settle.
func (l *Ledger) Totals() Totals { return l.totals }

// Spec returns what the ledger was started with. It must not be modified.
func (l *Ledger) Spec() *Spec { return &l.in.Set }

// Verdict returns the decision for the node; nil when it has no pod and should have none.
func (l *Ledger) Verdict(node string) *Verdict {
	if v := l.slots[node]; v != nil {
		return &v.Verdict
	}
	return nil
}

// Nodes calls see with the verdict of every node that has one, in no order.
func (l *Ledger) Nodes(see func(*Verdict)) {
	for _, v := range l.slots {
		see(&v.Verdict)
	}
}

// schedule is a heap of the slots that have an Until, the earliest first.
type schedule []*slot

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].Until.Before(s[j].Until) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].turn, s[j].turn = i, j
}

// Push and Pop are for package container/heap.
func (s *schedule) Push(x any) {
	v := x.(*slot)
	v.turn = len(*s)
	*s = append(*s, v)
}

func (s *schedule) Pop() any {
	last := len(*s) - 1
	v := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return v
}
