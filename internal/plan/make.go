package plan

import (
	"cmp"
	"slices"
	"time"
)

// Make decides for a whole snapshot. It is the specification: anything that looks at less must
// reach the same plan. Make overwrites out and reuses its memory; out keeps no references to the
// input except strings.
func Make(in *Input, out *Plan) {
	out.reset()
	out.gather(in)
	out.classify(in)
	var totals Totals
	for i := range out.Verdicts {
		v := &out.Verdicts[i]
		totals.Add(v)
		if v.Candidate() {
			out.candidates = append(out.candidates, v)
		}
	}
	if in.Release != nil {
		slices.SortStableFunc(out.candidates, func(a, b *Verdict) int { return cmp.Compare(a.rank, b.rank) })
	}
	Roll(in, &totals, out.candidates)
	out.collect(&totals)
	out.release()
}

func (out *Plan) reset() {
	out.Creates, out.Deletes, out.Changes, out.Verdicts = out.Creates[:0], out.Deletes[:0], out.Changes[:0], out.Verdicts[:0]
	out.nodes, out.pods, out.candidates = out.nodes[:0], out.pods[:0], out.candidates[:0]
}

// gather sorts nodes and pods by node name (I8). Pods that name no node belong to no node yet:
// only the scheduler can say where they go, and it has not done so.
func (out *Plan) gather(in *Input) {
	for i := range in.Nodes {
		out.nodes = append(out.nodes, &in.Nodes[i])
	}
	for i := range in.Pods {
		if in.Pods[i].Node != "" {
			out.pods = append(out.pods, &in.Pods[i])
		}
	}
	slices.SortFunc(out.nodes, func(a, b *Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.pods, func(a, b *Pod) int { return cmp.Compare(a.Node, b.Node) })
}

// classify merges the two sorted lists into one verdict for each name.
func (out *Plan) classify(in *Input) {
	nodes, pods := out.nodes, out.pods
	for len(nodes) > 0 || len(pods) > 0 {
		var name string
		var node *Node
		if len(pods) == 0 || len(nodes) > 0 && nodes[0].Name <= pods[0].Node {
			node, nodes = nodes[0], nodes[1:]
			name = node.Name
		} else {
			name = pods[0].Node
		}
		n := 0
		for n < len(pods) && pods[n].Node == name {
			n++
		}
		Classify(in, name, node, pods[:n:n], out.next())
		pods = pods[n:]
	}
}

// next returns one more verdict, reusing the memory that it had in the last plan.
func (out *Plan) next() *Verdict {
	n := len(out.Verdicts)
	if n < cap(out.Verdicts) {
		out.Verdicts = out.Verdicts[:n+1]
	} else {
		out.Verdicts = append(out.Verdicts, Verdict{})
	}
	return &out.Verdicts[n]
}

// collect lists the writes, sorted by node name because the verdicts are.
func (out *Plan) collect(t *Totals) {
	out.Status, out.Exposure, out.Guarded, out.WakeAt = t.Status, t.Exposure, t.Guarded, earliest(out.Verdicts)
	for i := range out.Verdicts {
		v := &out.Verdicts[i]
		out.Creates = append(out.Creates, v.Creates()...)
		out.Deletes = append(out.Deletes, v.Deletes()...)
		out.Changes = append(out.Changes, v.Changes()...)
	}
}

// release drops references to the input, which may be large and belongs to the caller.
func (out *Plan) release() {
	clear(out.nodes)
	clear(out.pods)
}

// earliest returns the first instant at which time alone changes a verdict.
func earliest(verdicts []Verdict) (at time.Time) {
	for i := range verdicts {
		if u := verdicts[i].Until; !u.IsZero() && (at.IsZero() || u.Before(at)) {
			at = u
		}
	}
	return at
}
