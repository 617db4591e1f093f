package plan

import "container/heap"

// queue holds the candidates of one kind in two parts: the first ones by rank and name, which
// move, and the others, which wait.
type queue struct {
	granted, waiting ranking
}

func (q *queue) len() int { return len(q.granted.slots) + len(q.waiting.slots) }

// grant lets the first n candidates move, and calls moved for those that start to move.
func (q *queue) grant(in *Input, n int, moved func(*slot)) {
	for len(q.granted.slots) > max(n, 0) {
		q.pass(in, &q.granted, &q.waiting, false, moved)
	}
	for len(q.granted.slots) < n && len(q.waiting.slots) > 0 {
		q.pass(in, &q.waiting, &q.granted, true, moved)
	}
	for q.disordered() {
		q.pass(in, &q.waiting, &q.granted, true, moved)
		q.pass(in, &q.granted, &q.waiting, false, moved)
	}
}

// disordered reports whether a waiting candidate comes before a moving one.
func (q *queue) disordered() bool {
	g, w := q.granted.slots, q.waiting.slots
	return len(g) > 0 && len(w) > 0 && w[0].before(g[0])
}

func (q *queue) pass(in *Input, from, to *ranking, granted bool, moved func(*slot)) {
	v := heap.Pop(from).(*slot)
	v.granted = granted
	v.Reason = v.moves(in)
	heap.Push(to, v)
	moved(v)
}

// ranking is a heap of slots by rank and node name: the first one on top, or the last.
type ranking struct {
	slots []*slot
	last  bool
}

func (r *ranking) Len() int { return len(r.slots) }

func (r *ranking) Less(i, j int) bool {
	if r.last {
		i, j = j, i
	}
	return r.slots[i].before(r.slots[j])
}

// before is the order in which candidates move.
func (v *slot) before(w *slot) bool {
	return v.rank < w.rank || v.rank == w.rank && v.Node < w.Node
}

func (r *ranking) Swap(i, j int) {
	s := r.slots
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push and Pop are for package container/heap.
func (r *ranking) Push(x any) {
	v := x.(*slot)
	v.place = len(r.slots)
	r.slots = append(r.slots, v)
}

func (r *ranking) Pop() any {
	last := len(r.slots) - 1
	v := r.slots[last]
	r.slots[last] = nil
	r.slots = r.slots[:last]
	return v
}
