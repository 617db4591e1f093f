package sim

import (
	"time"

	"everynode/internal/plan"
)

// Changes in place. A kubelet that finds its pod changed goes on saying that the pod is Ready, while the old containers end
// and the new ones start; it may say so of new ones that are not, and may never have said anything else. What it writes is
// what package view makes of the statuses of a real one.

// unfitPods is how many of a hundred pods admission has rewritten.
const unfitPods = 10

// changing is what is true of a pod that can be changed, as of a version of it.
type changing struct {
	spec  string // the revision whose images it has, whatever its label says; empty: it was never changed
	runs  string // the revision that its containers are of, for all that its kubelet has said
	unfit bool   // admission has rewritten it: seen by a look at the whole pod alone
}

// fresh says that the containers are those that the pod asks for.
func (p *pod) fresh() bool { return !p.behind() }

// behind says that the kubelet has yet to give the pod the containers that it asks for.
func (p *pod) behind() bool {
	return p.spec != "" && p.Phase == plan.Running && p.runs != p.spec
}

// settled takes what the pod says of being ready for what is true of its present containers.
func (p *pod) settled() {
	if !p.behind() {
		p.Changing, p.Settles = false, 0
	}
}

// changeable is plan.Spec.InPlace of a revision: every other is whose pods run in the same places.
func (sc *Scenario) changeable(to string) map[string]bool {
	if !sc.InPlace {
		return nil
	}
	from := map[string]bool{}
	for _, hash := range append(sc.names(), fixed) {
		if hash != to && sc.place(hash) == sc.place(to) {
			from[hash] = true
		}
	}
	return from
}

func (sc *Scenario) names() (all []string) {
	for hash := range sc.Revisions {
		all = append(all, hash)
	}
	return all
}

// idle says that nothing is to be done by the last decision.
func (c *controller) idle() bool {
	return len(c.out.Deletes)+len(c.out.Creates)+len(c.out.Changes) == 0
}

// begins says that between these two versions of a pod its containers have become those of its last change: how long it
// has been ready counts from then.
func begins(old, now *plan.Pod) bool {
	return !old.Changed.Equal(now.Changed) || old.Changing && old.Settles == 0 && (!now.Changing || now.Settles > 0)
}

// change makes the pod of a write one of another revision, if it still is what the write expects.
func (a *api) change(w *write) answer {
	p := a.podNamed(w.change.Pod)
	switch {
	case p == nil:
		return answer{code: notFound}
	case p.UID != w.change.UID, p.version != w.version && a.w.bug != ChangesBlindly:
		return answer{code: conflict}
	case a.banned[p.Node]:
		return answer{code: refused}
	case a.choked[p.Node]:
		return answer{code: throttled}
	}
	a.w.check.changing(p, w)
	a.w.check.exposing(w)
	a.w.tracef("api      %s is changed from %s to %s", p.Name, p.Hash, w.hash)
	return answer{pod: a.putPod(p, func(p *pod) {
		p.Hash, p.Generation, p.spec = w.hash, w.generation(), w.hash
		p.Changing, p.Settles, p.Changed, p.WasReady = true, 0, a.w.stampOf("engine"), false
		if p.runs == p.spec {
			p.runs = "" // it got away from there and is back: its containers may be either's
		}
	})}
}

// later does what a container does, unless another has come in its place.
func (k *kubelets) later(uid string, d time.Duration, do func()) {
	l := k.life(uid)
	term := l.term
	k.w.after(d, func() {
		if l.term == term {
			do()
		}
	})
}

// changes begins to give a pod the containers of its revision. The old ones end some time before the new ones are there.
func (k *kubelets) changes(p *pod) {
	uid, l := p.UID, k.life(p.UID)
	l.to = p.spec
	l.term++
	k.later(uid, k.w.between(10*time.Millisecond, time.Second), func() {
		if p := k.running(uid); p != nil {
			l.up = false
			k.later(uid, k.termination(p), func() { k.changed(uid) })
			return
		}
		l.to = "" // looked at again when the node is back
	})
}

// The ways in which a kubelet says that a pod has new containers.
const (
	probed    = iota // they are not ready until they are probed
	unprobed         // they are ready as they run
	taken            // they are said to be ready, for what the old ones were; and are not
	lookalike        // they are ready, and look like the old ones
	waysToSay
)

// changed says that the new containers run.
func (k *kubelets) changed(uid string) {
	p, l := k.running(uid), k.life(uid)
	if p == nil || l.to != p.spec {
		l.to = ""
		return
	}
	l.to = ""
	way := k.w.rng.IntN(waysToSay)
	if b := k.behaviour(p); !p.Ready || way != taken && b != Good && b != Lingers {
		way = probed
	}
	k.w.tracef("kubelet  %s has containers of %s", p.Name, p.spec)
	p = k.w.api.putPod(p, func(p *pod) {
		p.runs = p.spec
		switch way {
		case probed:
			k.w.stampReady(p, false, p.Node)
			p.settled()
		case unprobed:
			k.w.restampReady(p)
			p.settled()
		case taken:
			p.Settles, p.readyAt = 20*time.Second, never
		case lookalike:
			k.w.restampReady(p)
			p.Settles = 40 * time.Second
		}
	})
	switch way {
	case probed:
		k.behave(p)
	case taken:
		k.later(uid, 700*time.Millisecond, func() {
			k.ready(uid, false)
			if p := k.running(uid); p != nil {
				k.behave(p)
			}
		})
	default:
		l.up = true
	}
}

// never is a time that no run comes to.
const never = 1000 * time.Hour

// restampReady is for new containers of a pod that stays ready: it counts from their start, by the kubelet's clock, if that
// is later than what was written before.
func (w *world) restampReady(p *pod) {
	at := w.stampOf(p.Node)
	if at.Before(p.readyStamp) {
		at = p.readyStamp
	}
	p.ReadySince, p.readyStamp, p.readyAt = at, at, w.now
	p.lastReady.stamp, p.lastReady.at = at, w.now
}

// changing is called just before a change takes effect.
func (k *checker) changing(p *pod, w *write) {
	k.report.Changes++
	switch {
	case p.Hash == w.hash:
		k.w.fail("in place: %s is changed to %s, which it is of", p.Name, w.hash)
	case p.Generation > w.set.spec.Generation:
		k.w.fail("I13: %s is changed by template %d; it was made from %d", p.Name, w.set.spec.Generation, p.Generation)
	case p.unfit:
		k.w.fail("in place: %s is changed, and is not what its revision says", p.Name)
	case !live(&p.Pod), p.Phase != plan.Running:
		k.w.fail("in place: %s is changed, and does not run", p.Name)
	case p.Ready && !w.ready:
		k.w.fail("premise: %s is changed for not being ready; it is", p.Name)
	}
}

// judgeChanges holds changes to the budget: a pod that is changed serves nobody until it is seen to.
func (k *checker) judgeChanges(c *controller, set *daemonSet, b *balance, rule string) {
	for i := range c.out.Changes {
		d := &c.out.Changes[i]
		at, p := k.place(d.Node), c.index.pod(d.UID)
		switch {
		case at == nil || at.node == nil || p == nil || at.live != 1:
			k.w.fail("in place: %s is to be changed on %s, where it is not the only one", d.Pod, d.Node)
		case b.surges:
			k.w.fail("in place: %s is to be changed, with surge", d.Pod)
		case !k.available(c, set, p):
		default:
			at.take()
			if b.down++; b.down > b.maxUnavailable {
				k.w.fail("%s: %s is available and is to be changed; that makes %d down of at most %d", rule, p.Name, b.down, b.maxUnavailable)
			}
		}
	}
}
