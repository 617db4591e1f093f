package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawInput draws a small, odd world. Ages are drawn from a few values, so that equal
// times, and times just before and after others, are common.
func drawInput(t *rapid.T) *Input {
	in := &Input{Now: scriptNow(), Set: drawSpec(t), Gone: map[string]bool{}, Backoff: map[string]Backoff{},
		Waits: map[string][]Wait{}, Left: map[string]bool{}}
	for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
		in.Nodes = append(in.Nodes, drawNode(t, fmt.Sprintf("n%d", i)))
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "pods") {
		in.Pods = append(in.Pods, drawPod(t, fmt.Sprintf("p%d", i)))
	}
	for i := range 7 {
		name := fmt.Sprintf("n%d", i)
		if rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
			in.Gone[name] = true
		}
		if rapid.IntRange(0, 3).Draw(t, "backoff") == 0 {
			in.Backoff[name] = drawBackoff(t, "last-"+name)
		}
		if rapid.IntRange(0, 7).Draw(t, "waits") == 7 {
			in.Waits[name] = drawWaits(t, in, name)
		}
		in.Left[name] = rapid.IntRange(0, 7).Draw(t, "left") == 7
	}
	return in
}

func drawSpec(t *rapid.T) Spec {
	set := Spec{
		Hash:           "b",
		Generation:     rapid.SampledFrom([]int64{0, 7}).Draw(t, "generation"),
		Strategy:       rapid.SampledFrom([]Strategy{RollingUpdate, RollingUpdate, RollingUpdate, OnDelete}).Draw(t, "strategy"),
		MaxUnavailable: drawAmount(t, "maxUnavailable"),
		MinReady:       rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "minReady"),
		Scheduled:      rapid.IntRange(0, 9).Draw(t, "scheduled") == 0,
	}
	if rapid.IntRange(0, 2).Draw(t, "surge") == 0 {
		set.MaxSurge = drawAmount(t, "maxSurge")
	}
	if rapid.Bool().Draw(t, "selector") {
		set.Placement.Selector = map[string]string{"ssd": "true"}
	}
	if rapid.Bool().Draw(t, "inPlace") {
		set.InPlace = map[string]bool{rapid.SampledFrom([]string{"a", "a", "c"}).Draw(t, "from"): true}
	}
	if rapid.IntRange(0, 15).Draw(t, "halt") == 0 {
		set.Halt = SelectsAll
	}
	return set
}

func drawAmount(t *rapid.T, label string) Amount {
	return rapid.SampledFrom([]Amount{{Value: 0}, {Value: 1}, {Value: 2}, {Value: 3}, {Value: 34, Percent: true}, {Value: 100, Percent: true}}).Draw(t, label)
}

func drawAge(t *rapid.T) time.Time {
	s := rapid.SampledFrom([]int{0, 1, 29, 30, 31, 60, 930, 931, 3600}).Draw(t, "age")
	return scriptNow().Add(-time.Duration(s) * time.Second)
}

func drawDelay(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, time.Second, 31 * time.Second, 15 * time.Minute}).Draw(t, "delay")
}

// drawWaits draws what waits on a node, which is mostly about existing pods.
func drawWaits(t *rapid.T, in *Input, node string) (waits []Wait) {
	pods := []string{"uid-other"}
	for i := range in.Pods {
		if in.Pods[i].Node == node {
			pods = append(pods, in.Pods[i].UID)
		}
	}
	for range rapid.IntRange(1, 2).Draw(t, "acts") {
		w := Wait{Until: drawAge(t).Add(drawDelay(t)), What: "refused"}
		w.Act.Kind = rapid.SampledFrom([]ActKind{Creating, Deleting, Deleting, Deleting, Changing, Claiming}).Draw(t, "act")
		if w.Act.Kind != Creating {
			w.Act.Pod = rapid.SampledFrom(pods).Draw(t, "pod")
		}
		w.Act.Now = w.Act.Kind == Deleting && rapid.Bool().Draw(t, "now")
		waits = append(waits, w)
	}
	return waits
}

// drawMoment draws from a few values, so that equal ones are common; many are zero.
func drawMoment(t *rapid.T) Moment { return Moment(max(rapid.IntRange(-3, 4).Draw(t, "moment"), 0)) }

func drawBackoff(t *rapid.T, pod string) Backoff {
	b := Backoff{Last: drawAge(t), Delay: drawDelay(t), Pod: pod, Created: drawAge(t), First: drawAge(t), FirstSeen: drawMoment(t),
		Hash: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "hash"), Refused: rapid.Bool().Draw(t, "refused")}
	if b.First.After(b.Created) {
		b.First = b.Created
	}
	if rapid.IntRange(0, 2).Draw(t, "remade") == 0 {
		b.Remakes = Remakes{Last: drawAge(t), Again: rapid.SampledFrom([]uint8{0, 2, 3, 8, 9, 255}).Draw(t, "again"), By: TaintManager}
	}
	if rapid.IntRange(0, 3).Draw(t, "waited") == 0 {
		b.Waited = drawAge(t)
	}
	return b
}

func drawNode(t *rapid.T, name string) Node {
	n := Node{Name: name, UID: "uid-" + name, Labels: map[string]string{}, Ready: rapid.IntRange(0, 2).Draw(t, "ready") > 0}
	if rapid.IntRange(0, 4).Draw(t, "ssd") > 0 {
		n.Labels["ssd"] = "true"
	}
	if rapid.IntRange(0, 4).Draw(t, "taint") == 0 {
		effect := rapid.SampledFrom([]Effect{NoSchedule, NoSchedule, PreferNoSchedule, NoExecute}).Draw(t, "effect")
		n.Taints = []Taint{{Key: "k", Effect: effect}}
	}
	if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		n.ReadyChanged = drawAge(t)
	}
	if rapid.IntRange(0, 2).Draw(t, "changed") == 0 {
		n.Changed = drawAge(t)
	}
	n.Down, n.NeverReady = drawMoment(t), rapid.IntRange(0, 9).Draw(t, "never") == 9
	return n
}

func drawPod(t *rapid.T, name string) Pod {
	p := Pod{
		Name: name, UID: "uid-" + name,
		Node:       fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "node")),
		Bound:      rapid.IntRange(0, 4).Draw(t, "bound") > 0,
		Hash:       rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "hash"),
		Generation: rapid.SampledFrom([]int64{0, 6, 7}).Draw(t, "gen"),
		Phase:      rapid.SampledFrom([]Phase{Pending, Running, Running, Running, Failed, Succeeded}).Draw(t, "phase"),
		Created:    drawAge(t), SeenCreated: drawMoment(t),
		Ready:     rapid.Bool().Draw(t, "ready"),
		Uncertain: rapid.IntRange(0, 9).Draw(t, "uncertain") == 0,
		Refused:   rapid.Bool().Draw(t, "refused"),
		Forced:    rapid.Bool().Draw(t, "forced"),
		WasReady:  rapid.Bool().Draw(t, "wasready"),
		Newer:     rapid.IntRange(0, 14).Draw(t, "newer") == 14,
	}
	if rapid.IntRange(0, 3).Draw(t, "changed") == 0 {
		p.Changed, p.Changing = drawAge(t), rapid.Bool().Draw(t, "changing")
		p.Settles = rapid.SampledFrom([]time.Duration{0, 20 * time.Second, 40 * time.Second}).Draw(t, "settles")
	}
	p.Unchangeable = rapid.IntRange(0, 9).Draw(t, "unchangeable") == 0
	p.Assumed = p.Uncertain && rapid.Bool().Draw(t, "assumed")
	if rapid.IntRange(0, 9).Draw(t, "homeless") == 0 {
		p.Node, p.Bound = "", false
	}
	if rapid.IntRange(0, 9).Draw(t, "since") > 0 {
		p.ReadySince = drawAge(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
		p.Deleted, p.SeenDeleted = drawAge(t), drawMoment(t)
	}
	if p.Assumed { // nothing of it has been seen
		p.Phase, p.Ready, p.Deleted = Pending, false, time.Time{}
	}
	return p
}

// The twin answers the same questions from the definitions, slowly.

type twin struct{ in *Input }

func (w twin) podsOf(node string) (pods []Pod) {
	for _, p := range w.in.Pods {
		if p.Node == node {
			pods = append(pods, p)
		}
	}
	return pods
}

func (w twin) isCurrent(p Pod) bool {
	return p.Hash == w.in.Set.Hash || w.in.Set.Generation != 0 && p.Generation == w.in.Set.Generation
}

func isLive(p Pod) bool {
	return p.Deleted.IsZero() && p.Phase != Failed && p.Phase != Succeeded
}

func (w twin) isAvailable(p Pod) bool {
	if !isLive(p) || !p.Ready || p.Uncertain {
		return false
	}
	if w.inDoubt(p) {
		return false
	}
	if w.in.Set.MinReady == 0 {
		return true
	}
	return !p.ReadySince.IsZero() && w.in.Now.Sub(p.ReadySince) >= w.in.Set.MinReady
}

// inDoubt reports whether the pod may still be ready because of its containers from
// before its last change.
func (w twin) inDoubt(p Pod) bool {
	return p.Ready && p.Changing && (p.Settles == 0 || p.ReadySince.IsZero() || w.in.Now.Sub(p.ReadySince) < p.Settles)
}

func (w twin) runs(n Node) (run, keep bool) {
	if w.in.Set.Placement.Selector != nil && n.Labels["ssd"] != "true" {
		return false, false
	}
	for _, t := range n.Taints {
		switch t.Effect {
		case NoExecute:
			return false, false
		case NoSchedule:
			return false, true
		}
	}
	return true, true
}

func (w twin) isExcused(n Node) bool {
	if n.Ready || n.NeverReady {
		return !n.Ready
	}
	type work struct {
		seen    Moment
		written time.Time
	}
	all := []work{}
	for _, p := range w.podsOf(n.Name) {
		if w.isCurrent(p) {
			all = append(all, work{p.SeenCreated, p.Created})
		} else if !p.Deleted.IsZero() || p.Uncertain {
			all = append(all, work{p.SeenDeleted, p.Deleted})
		}
	}
	b := w.in.Backoff[n.Name]
	if b.Delay > 0 && w.in.Now.Sub(b.Last) <= 30*time.Minute && b.Hash == w.in.Set.Hash {
		all = append(all, work{b.FirstSeen, b.First})
	}
	isOlder := func(o work) bool { // the node's trouble
		if n.Down > 0 || o.seen > 0 {
			return o.seen > n.Down
		}
		return !n.ReadyChanged.IsZero() && o.written.Sub(n.ReadyChanged) > 15*time.Minute
	}
	return !w.in.Left[n.Name] && !slices.ContainsFunc(all, func(o work) bool { return !isOlder(o) })
}

// isHeld reports whether the node has a pod of a newer template (I13).
func (w twin) isHeld(node string) bool {
	return slices.ContainsFunc(w.podsOf(node), func(p Pod) bool { return p.Newer })
}

// waits reports whether any write waits there, planned or not.
func (w twin) waits(node string) bool {
	return slices.ContainsFunc(w.in.Waits[node], func(o Wait) bool { return o.Until.Sub(w.in.Now) > 0 })
}

// withholds reports whether the act waits, or waits because all acts of the node do.
func (w twin) withholds(node string, a Act) bool {
	return slices.ContainsFunc(w.in.Waits[node], func(o Wait) bool {
		return o.Until.Sub(w.in.Now) > 0 && (o.Act == a || o.Act.Kind == Claiming)
	})
}

// b returns the set B of I4, without and with an available pod.
func (w twin) b() (down, serving int) {
	for _, n := range w.in.Nodes {
		pods := w.podsOf(n.Name)
		run, keep := w.runs(n)
		holds := func(p Pod) bool { return isLive(p) && (w.isCurrent(p) && p.Bound || w.isAvailable(p)) }
		if !run && !(keep && slices.ContainsFunc(pods, holds)) {
			continue
		}
		switch {
		case slices.ContainsFunc(pods, w.isAvailable):
			serving++
		case slices.ContainsFunc(pods, func(p Pod) bool { return isLive(p) && p.Ready && !p.Uncertain }) || !w.isExcused(n):
			down++
		}
	}
	return down, serving
}

func (w twin) desired() (n int) {
	for _, node := range w.in.Nodes {
		if run, _ := w.runs(node); run {
			n++
		}
	}
	return n
}

func (w twin) surges() bool {
	return w.in.Set.Strategy == RollingUpdate && w.in.Set.MaxSurge.Value > 0
}

func (w twin) pod(name string) Pod {
	i := slices.IndexFunc(w.in.Pods, func(p Pod) bool { return p.Name == name })
	return w.in.Pods[i]
}

func (w twin) node(name string) (Node, bool) {
	i := slices.IndexFunc(w.in.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return w.in.Nodes[i], true
}

func checkWorlds(t *testing.T, check func(t *rapid.T, w twin, out *Plan)) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		var out Plan
		Make(in, &out)
		check(t, twin{in}, &out)
	})
}
