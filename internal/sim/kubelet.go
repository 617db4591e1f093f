package sim

import (
	"time"

	"everynode/internal/plan"
)

// Behaviour is what happens to the pods of a revision.
type Behaviour string

// The behaviours.
const (
	Good    Behaviour = "good"    // ready within two seconds
	Slow    Behaviour = "slow"    // ready within twenty seconds
	Never   Behaviour = "never"   // runs, and is never ready
	Fails   Behaviour = "fails"   // ends soon after its start
	Flaps   Behaviour = "flaps"   // ready and not ready in turn
	Kills   Behaviour = "kills"   // its node breaks soon after its start
	Lingers Behaviour = "lingers" // ready like a good one, and takes half a minute to end
	Sours   Behaviour = "sours"   // ready like a good one, and permanently not ready after up to a minute
)

// kubelets is what runs on the nodes, together with other components: the scheduler, the node lifecycle controller and
// the pod garbage collector.
type kubelets struct {
	w      *world
	runs   map[string]*life  // by pod UID
	killed map[string]bool   // nodes that a revision has killed, ever
	evicts map[string]bool   // nodes where someone deletes pods as they come
	pruned map[string]string // by revision: what its new pods do instead of starting (wait, or fail)
	made   int               // how many containers were created of pods that can be changed
}

// life is what a kubelet knows about a pod.
type life struct {
	starting, started, ending, killed bool
	evicted                           bool
	up                                bool // the process would answer
	term                              int  // of its containers, counted: what was planned for earlier ones no longer happens
	boxes                             [perPod]box
	wants                             string // the revision that the current round is for; empty: there is no round
	woken                             bool   // a round is about to begin
	restarted                         bool   // a container has restarted, which was not reported yet
	way                               int    // how the last new containers are reported
}

func newKubelets(w *world) *kubelets {
	return &kubelets{w: w, runs: map[string]*life{}, killed: map[string]bool{}, evicts: map[string]bool{}, pruned: map[string]string{}}
}

func (k *kubelets) life(uid string) *life {
	l := k.runs[uid]
	if l == nil {
		l = &life{}
		k.runs[uid] = l
	}
	return l
}

// saw makes the kubelet look at a new or changed pod a little later.
func (k *kubelets) saw(p *pod) {
	l := k.life(p.UID)
	uid := p.UID
	if k.evicts[p.Node] && !l.evicted {
		l.evicted = true
		k.w.after(k.w.between(10*time.Millisecond, 500*time.Millisecond), func() { k.evict(uid) })
	}
	switch {
	case !p.Bound:
		k.w.after(k.w.between(10*time.Millisecond, time.Second), func() { k.bind(uid) })
	case !p.Deleted.IsZero() && !l.ending:
		l.ending = true
		k.w.after(k.termination(p), func() { k.end(uid) })
	case p.stale() && p.Deleted.IsZero():
		k.wakes(p)
	case p.Phase == plan.Pending && !l.starting:
		l.starting = true
		k.w.after(k.w.between(10*time.Millisecond, time.Second), func() { k.start(uid) })
	}
}

// evict does what a descheduler or a policy does, with or without a grace period.
func (k *kubelets) evict(uid string) {
	p := k.w.api.pod(uid)
	if p == nil || !p.Deleted.IsZero() || !k.evicts[p.Node] {
		return
	}
	if k.w.chance(50) {
		p = k.w.api.putPod(p, func(p *pod) { p.Disruptor = plan.EvictionAPI })
	}
	k.w.api.mark(p, k.w.chance(30), 0)
}

// termination returns how long a pod takes to end: most listen to SIGTERM.
func (k *kubelets) termination(p *pod) time.Duration {
	if k.behaviour(p) == Lingers {
		return 30 * time.Second
	}
	if k.w.chance(10) {
		return k.w.between(10*time.Second, 30*time.Second)
	}
	return k.w.between(10*time.Millisecond, 2*time.Second)
}

// host returns the node on which a pod runs; nil while that node cannot report.
func (k *kubelets) host(p *pod) *node {
	if n := k.w.api.node(p.Node); n != nil && n.alive {
		return n
	}
	return nil
}

// bind plays the scheduler.
func (k *kubelets) bind(uid string) {
	a := k.w.api
	p := a.pod(uid)
	if p == nil || p.Bound || !p.Deleted.IsZero() {
		return
	}
	n := a.node(p.Node)
	if n == nil || a.unscheduled || n.full || !permits(new(k.w.sc.placement(p.Hash)), &n.Node).run {
		return // looked at again when the node changes
	}
	a.putPod(p, func(p *pod) { p.Bound, p.nodeUID = true, n.UID })
}

func (k *kubelets) start(uid string) {
	p := k.w.api.pod(uid)
	l := k.life(uid)
	l.starting = false
	if p == nil || !p.Deleted.IsZero() || p.Phase != plan.Pending {
		return
	}
	n := k.host(p)
	if n == nil {
		return
	}
	if n.full || n.misfit || n.forbids {
		k.w.tracef("kubelet  %s is refused", p.Name)
		k.w.api.putPod(p, func(p *pod) { p.Phase, p.Refused = plan.Failed, !n.forbids })
		return
	}
	switch k.pruned[p.Hash] {
	case "waits":
		return
	case "fails":
		defer k.later(uid, k.w.between(10*time.Millisecond, 3*time.Second), func() { k.fails(uid) })
	}
	l.started = true
	for i := range l.boxes {
		l.boxes[i] = k.box(image(p.asks, i))
	}
	p = k.w.api.putPod(p, func(p *pod) { p.Phase, p.seen, p.shown = plan.Running, p.asked, l.boxes })
	k.behave(p)
}

// prune removes something that the current stable revision needs.
func (k *kubelets) prune(how string) {
	stable := k.w.api.set.spec.Hash
	if o := k.w.api.keeper; o != nil && o.state.Stable != "" {
		stable = o.state.Stable
	}
	k.w.tracef("user     takes away what %s needs: its new pods: %s", stable, how)
	k.pruned[stable] = how
}

// behave makes a running pod do what its revision does.
func (k *kubelets) behave(p *pod) {
	w, uid := k.w, p.UID
	after := func(d time.Duration, do func()) { k.later(uid, d, do) }
	switch k.behaviour(p) {
	case Good, Lingers:
		after(w.between(10*time.Millisecond, 2*time.Second), func() { k.ready(uid, true) })
	case Sours:
		after(w.between(10*time.Millisecond, 2*time.Second), func() { k.ready(uid, true) })
		after(w.between(10*time.Second, time.Minute), func() { k.ready(uid, false) })
	case Slow:
		after(w.between(5*time.Second, 20*time.Second), func() { k.ready(uid, true) })
	case Fails:
		after(w.between(10*time.Millisecond, 3*time.Second), func() { k.fails(uid) })
	case Flaps:
		after(w.between(10*time.Millisecond, 3*time.Second), func() { k.flap(uid) })
	case Kills:
		after(w.between(10*time.Millisecond, 2*time.Second), func() { k.ready(uid, true) })
		after(w.between(10*time.Millisecond, 6*time.Second), func() { k.kill(uid) })
	}
}

func (k *kubelets) behaviour(p *pod) Behaviour {
	if p.Hash == fixed {
		return Good
	}
	return k.w.sc.Revisions[p.Hash]
}

// running returns the pod if it runs and its node can report.
func (k *kubelets) running(uid string) *pod {
	p := k.w.api.pod(uid)
	if p == nil || p.Phase != plan.Running || !p.Deleted.IsZero() || k.host(p) == nil {
		return nil
	}
	return p
}

func (k *kubelets) ready(uid string, is bool) {
	k.life(uid).up = is
	p := k.running(uid)
	if p == nil || p.Ready == is {
		return
	}
	k.w.tracef("kubelet  %s ready=%v", p.Name, is)
	k.w.api.putPod(p, func(p *pod) {
		p.WasReady = p.WasReady || p.Ready
		k.w.stampReady(p, is, p.Node)
	})
}

func (k *kubelets) fails(uid string) {
	if p := k.running(uid); p != nil {
		k.w.tracef("kubelet  %s fails", p.Name)
		k.w.api.putPod(p, func(p *pod) { p.Phase, p.Ready = plan.Failed, false })
	}
}

// flap turns readiness on and off until everything is healed.
func (k *kubelets) flap(uid string) {
	p := k.running(uid)
	if p == nil {
		return
	}
	k.ready(uid, k.w.healed || !p.Ready)
	if !k.w.healed {
		k.later(uid, k.w.between(time.Second, 8*time.Second), func() { k.flap(uid) })
	}
}

func (k *kubelets) kill(uid string) {
	p, l := k.running(uid), k.life(uid)
	if p == nil || l.killed || k.w.healed {
		return
	}
	l.killed = true
	k.killed[p.Node] = true
	k.w.check.report.Killed = len(k.killed)
	k.breakNode(p.Node)
}

// end is the last report of a kubelet about a terminating pod.
func (k *kubelets) end(uid string) {
	p := k.w.api.pod(uid)
	if p == nil {
		return
	}
	if k.host(p) == nil {
		k.life(uid).ending = false // asked again when the node is back
		return
	}
	if !k.w.sc.Finalizers {
		k.w.api.removePod(p)
		return
	}
	k.w.api.putPod(p, func(p *pod) { p.Phase, p.Ready = plan.Failed, false })
	k.w.after(k.w.between(0, 5*time.Second), func() {
		if p := k.w.api.pod(uid); p != nil {
			k.w.api.removePod(p)
		}
	})
}

// The taint that the node lifecycle controller puts on a node that is not Ready. DaemonSet pods tolerate the NoExecute
// taint with this key, not this one.
var notReadyTaint = plan.Taint{Key: "node.kubernetes.io/not-ready", Effect: plan.NoSchedule}

// breakNode makes a node fall silent; its pods stop being ready a little later.
func (k *kubelets) breakNode(name string) {
	w := k.w
	n := w.api.node(name)
	if n == nil || !n.alive {
		return
	}
	w.tracef("node     %s turns NotReady", name)
	w.api.putNode(name, func(n *node) {
		n.alive, n.Ready, n.ReadyChanged = false, false, w.stampOf(w.whoTells(name))
		if w.sc.TaintNotReady {
			n.Taints = with(n.Taints, notReadyTaint)
		}
	})
	if w.chance(50) {
		w.after(w.between(0, 20*time.Second), func() { k.flip(name) })
	}
	w.after(w.between(0, 2*time.Second), func() {
		if n := w.api.node(name); n == nil || n.alive {
			return
		}
		w.api.on(name, func(p *pod) {
			if p.Ready {
				w.api.putPod(p, func(p *pod) {
					p.WasReady = true
					w.stampReady(p, false, "nodes")
				})
			}
		})
	})
}

// whoTells returns whose clock writes that a node is not Ready: its kubelet's or the node controller's.
func (w *world) whoTells(node string) string {
	if w.chance(50) {
		return "nodes"
	}
	return node
}

// stampReady writes whether a pod is ready, by a clock. A pause within one second of that clock is not visible to
// anyone who was not shown it.
func (w *world) stampReady(p *pod, is bool, whose string) {
	at := w.stampOf(whose)
	p.Ready, p.ReadySince, p.readyStamp, p.readyAt, p.passes = is, at, at, w.now, false
	switch {
	case !is:
	case at.Equal(p.lastReady.stamp):
		p.readyAt = p.lastReady.at
	default:
		p.lastReady.stamp, p.lastReady.at = at, w.now
	}
}

// flip makes a dead node's condition change between Unknown and False.
func (k *kubelets) flip(name string) {
	w := k.w
	if n := w.api.node(name); n == nil || n.alive {
		return
	}
	w.api.putNode(name, func(n *node) { n.ReadyChanged = w.stampOf(w.whoTells(name)) })
	if w.chance(50) {
		w.after(w.between(time.Second, 40*time.Second), func() { k.flip(name) })
	}
}

// mendNode brings a node back; its pods report again.
func (k *kubelets) mendNode(name string) {
	w := k.w
	n := w.api.node(name)
	if n == nil || n.alive {
		return
	}
	w.tracef("node     %s is Ready again", name)
	delete(w.api.left, name)
	w.api.putNode(name, func(n *node) {
		n.alive, n.Ready, n.ReadyChanged = true, true, w.stampOf(name)
		n.Taints = without(n.Taints, notReadyTaint.Key)
	})
	k.kick(name)
}

// kick looks again at every pod of a node.
func (k *kubelets) kick(name string) {
	k.w.api.on(name, func(p *pod) {
		k.saw(p)
		l := k.life(p.UID)
		if p.Phase == plan.Running && !p.Ready && p.Deleted.IsZero() && k.host(p) != nil {
			uid, up := p.UID, l.up
			if p.stale() {
				return
			}
			if up {
				k.later(uid, k.w.between(0, 2*time.Second), func() { k.ready(uid, true) })
			} else {
				k.behave(p)
			}
		}
	})
}

// leave removes a node. The garbage collector removes the pods that it leaves behind, unless a node of that name is
// back by then.
func (k *kubelets) leave(name string) {
	w := k.w
	if w.api.node(name) == nil {
		return
	}
	w.tracef("node     %s leaves", name)
	w.api.removeNode(name)
	delete(w.api.left, name)
	k.collect(name)
}

// collect runs the garbage collector: for a node that has left, or for a pod that was created for a node that does not
// exist.
func (k *kubelets) collect(name string) {
	w := k.w
	w.after(w.between(40*time.Second, 60*time.Second), func() {
		if w.api.node(name) != nil {
			return
		}
		w.api.on(name, func(p *pod) {
			if p.Bound {
				w.api.removePod(p)
			}
		})
	})
}

// join adds a node.
func (k *kubelets) join(name string, labels map[string]string, taints []plan.Taint) {
	w := k.w
	if w.api.node(name) != nil {
		return
	}
	w.tracef("node     %s joins", name)
	w.api.putNode(name, func(n *node) {
		n.alive, n.Ready, n.ReadyChanged = true, true, w.stampOf(name)
		n.Labels, n.Taints = labels, taints
	})
	k.kick(name)
}

// with and without return new slices: objects of the API never change.
func with(taints []plan.Taint, t plan.Taint) []plan.Taint {
	return append(without(taints, t.Key), t)
}

func without(taints []plan.Taint, key string) []plan.Taint {
	left := []plan.Taint{}
	for _, t := range taints {
		if t.Key != key {
			left = append(left, t)
		}
	}
	return left
}
