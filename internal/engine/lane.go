package engine

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// lane is the writes of one DaemonSet. The applier guards it.
type lane struct {
	key    identity
	tenant *tenant
	// creates and deletes wait in the order in which they came; a create that waits for its pace
	// holds up no delete. waiting is how many there are in both, without withdrawn ones.
	creates, deletes fifo
	waiting, came    int
	started          map[*write]bool
	places           map[string]*place // by node; none is empty
	held             bool
	rank             int // of the priority class of its pods
	win              window
	// slow is how many of its writes have taken longer than slowAfter, and do not
	// count against the window for all.
	slow  int
	speed speed
	trouble
	// overQuota is the set of nodes whose creates have hit the quota since one succeeded.
	overQuota map[string]bool
	quotaWait time.Duration
}

func newLane(key identity, t *tenant) *lane {
	return &lane{key: key, tenant: t, started: map[*write]bool{}, places: map[string]*place{}, win: newWindow(),
		trouble: trouble{nodes: map[string]bool{}}, overQuota: map[string]bool{}}
}

// afresh forgets what was refused.
func (l *lane) afresh() {
	l.overQuota, l.quotaWait = map[string]bool{}, 0
	l.succeeds()
}

// fifo is a queue of writes that wait for their turn. Withdrawn ones are skipped when they reach the front.
type fifo []*write

func (q *fifo) head() *write {
	for len(*q) > 0 && (*q)[0].withdrawn {
		q.pop()
	}
	if len(*q) == 0 {
		return nil
	}
	return (*q)[0]
}

func (q *fifo) pop() {
	(*q)[0] = nil
	*q = (*q)[1:]
}

// rankOf orders DaemonSets whose writes compete: those that a node needs come before those that
// the cluster needs, and those before the rest. A template may name any class: the class counts
// once the API server has admitted a pod with it, and in kube-system.
func rankOf(w *write) int {
	if w.key.Namespace != metav1.NamespaceSystem && !w.state.admitted(classOf(w.ds)) {
		return 0
	}
	switch classOf(w.ds) {
	case "system-node-critical":
		return 2
	case "system-cluster-critical":
		return 1
	}
	return 0
}

func classOf(ds *appsv1.DaemonSet) string { return ds.Spec.Template.Spec.PriorityClassName }

// place is the writes to one node.
type place struct{ waiting, started []*write }

// startedOn returns the writes to the node that are under way. A nil lane has none.
func (l *lane) startedOn(node string) []*write {
	if l == nil {
		return nil
	}
	if p := l.places[node]; p != nil {
		return p.started
	}
	return nil
}

// replace replaces the waiting writes of the node. A waiting write for the same act keeps its
// turn. Writes that conflict with one under way are left out: its result comes first, and a new
// decision follows.
func (l *lane) replace(node string, writes []*write) {
	p := l.places[node]
	if p == nil {
		if len(writes) == 0 {
			return
		}
		p = &place{}
		l.places[node] = p
	}
	writes = slices.DeleteFunc(writes, p.conflicts)
	old := p.waiting
	p.waiting = nil
	for _, w := range writes {
		if i := slices.IndexFunc(old, w.sameAct); i >= 0 {
			old[i].adopt(w)
			p.waiting = append(p.waiting, old[i])
			old = slices.Delete(old, i, i+1)
			continue
		}
		p.waiting = append(p.waiting, w)
		l.push(w)
	}
	for _, w := range old {
		w.withdrawn = true
		l.waiting--
	}
	l.drop(node, p)
}

func (l *lane) drop(node string, p *place) {
	if len(p.waiting)+len(p.started) == 0 {
		delete(l.places, node)
	}
}

func (l *lane) push(w *write) {
	l.came++
	w.came = l.came
	l.waiting++
	q := l.queueOf(w)
	*q = append(*q, w)
}

func (l *lane) queueOf(w *write) *fifo {
	if w.create != nil {
		return &l.creates
	}
	return &l.deletes
}

// conflicts reports whether a started write is about the same pod or place. A create waits for
// any write to its node, because the result may change the new name.
func (p *place) conflicts(w *write) bool {
	return slices.ContainsFunc(p.started, func(s *write) bool {
		_, ours := w.about()
		_, theirs := s.about()
		return w.create != nil || ours == theirs
	})
}

// sameAct reports whether both writes ask for the same.
func (w *write) sameAct(o *write) bool {
	switch {
	case w.hash != o.hash, w.verb() != o.verb():
		return false
	case w.create != nil:
		return *w.create == *o.create
	case w.change != nil:
		return *w.change == *o.change
	default:
		return *w.remove == *o.remove
	}
}

// adopt takes over the premises of a newer decision.
func (w *write) adopt(o *write) {
	w.ds, w.state, w.mold, w.from, w.rests, w.known, w.taken, w.newest, w.first = o.ds, o.state, o.mold, o.from, o.rests, o.known, o.taken, o.newest, o.first
}

// withdraw removes the waiting writes that is selects.
func (l *lane) withdraw(is func(*write) bool) {
	for node, p := range l.places {
		p.waiting = slices.DeleteFunc(p.waiting, func(w *write) bool {
			if !is(w) {
				return false
			}
			w.withdrawn = true
			l.waiting--
			return true
		})
		l.drop(node, p)
	}
}

// head returns the next write, or nil. Creates are left out while they are paced.
func (l *lane) head(paced bool) *write {
	create, remove := l.creates.head(), l.deletes.head()
	if create == nil || paced || remove != nil && remove.came < create.came {
		return remove
	}
	return create
}

// start moves the head from the waiting writes to those under way.
func (l *lane) start(w *write) {
	l.queueOf(w).pop()
	l.waiting--
	p := l.places[w.node()]
	p.waiting = slices.DeleteFunc(p.waiting, func(o *write) bool { return o == w })
	p.started = append(p.started, w)
	l.started[w] = true
}

// hashes adds to into the revisions from which pods are being created.
func (l *lane) hashes(into map[string]bool) {
	if l == nil {
		return
	}
	for w := range l.started {
		if w.remove == nil {
			into[w.hash] = true
		}
	}
}

func (l *lane) end(w *write) {
	delete(l.started, w)
	p := l.places[w.node()]
	p.started = slices.DeleteFunc(p.started, func(o *write) bool { return o == w })
	l.drop(w.node(), p)
}
