package sim

import (
	"time"

	"everynode/internal/plan"
)

// Changes in place. A kubelet whose pod was changed goes on saying that the pod is Ready while the old containers end and
// the new ones start. It may say so of new containers that are not ready, and may never have said anything else. It
// finishes what it has begun, and reports that under whatever the pod asks for by then. It does not touch a container that
// already has the image that is asked for. What is written is what package view concludes from the statuses of a real
// kubelet (judged).

// unfitPods is the percentage of pods that admission has rewritten.
const unfitPods = 10

// perPod is how many containers a pod has. The image of the second does not change with every revision.
const perPod = 2

// box is a container.
type box struct {
	id      int
	image   string // no status shows it: only its content has an ID
	running bool
}

// changing is what is true of one version of a pod that can be changed in place.
type changing struct {
	asks    string      // the revision whose images it has, whatever its label says; empty: the scenario changes nothing in place
	asked   int         // its generation: how often asks has changed
	seen    int         // the newest generation that its kubelet has observed
	shown   [perPod]box // its containers, as its kubelet has last reported them
	passes  bool        // they are reported to be ready because the old ones were
	record  *record     // of the last change; nil: it was never changed
	unfit   bool        // admission has rewritten it: only a look at the whole pod shows this
	settled bool        // in an index: the last change is no longer in doubt
}

// record is what a change writes into its pod.
type record struct {
	hash    string
	asked   int
	before  [perPod]box
	changed [perPod]bool
}

// image returns the image of one container in a revision.
func image(hash string, i int) string {
	switch {
	case i == 0:
		return hash
	case hash == "a" || hash == "b":
		return "beside-1"
	default:
		return "beside-2"
	}
}

// content returns the ID of an image's content. In some clusters one image is another under a new name.
func (sc *Scenario) content(image string) string {
	if sc.Seed%3 == 0 && image == "b" {
		return "a"
	}
	return image
}

// madeOf reports whether the containers are those of the revision, and are running.
func madeOf(hash string, boxes *[perPod]box) bool {
	for i := range boxes {
		if b := &boxes[i]; !b.running || b.image != image(hash, i) {
			return false
		}
	}
	return true
}

// fresh reports whether the containers are those that the pod asks for.
func (p *pod) fresh() bool {
	return p.asks == "" || p.Phase != plan.Running || madeOf(p.asks, &p.shown)
}

// stale reports whether the kubelet has something to do for the pod, or to report about it.
func (p *pod) stale() bool { return p.Phase == plan.Running && (!p.fresh() || p.seen < p.asked) }

// How long it takes until a container that looks like the old one certainly is not, and until a container has certainly
// been probed.
const (
	endsWithin   = 30 * time.Second // each
	endSlack     = 10 * time.Second
	probedWithin = 20 * time.Second
)

// judged is what package view concludes about the pod from what its kubelet has said and from the record of its last
// change.
func (p *pod) judged(w *world) {
	r := p.record
	if r == nil {
		return
	}
	p.Changing, p.Settles, p.Unchangeable = p.seen < r.asked, 0, p.Hash != r.hash
	through, alike, ends := !p.Changing, false, endSlack
	for i := range r.before {
		was, is := &r.before[i], &p.shown[i]
		if !r.changed[i] || p.seen < r.asked {
			continue
		}
		ends += endsWithin
		through = through && is.id != was.id
		p.Changing = p.Changing || is.id == was.id || !is.running
		alike = alike || w.sc.content(is.image) == w.sc.content(was.image)
	}
	if alike && !p.Ready {
		through = false
	}
	if !through && w.bug != ChangesTwice {
		p.Unchangeable = true
	}
	if p.Changing || !p.Ready {
		return
	}
	if alike {
		p.Settles = ends
	}
	if p.passes {
		p.Settles = max(p.Settles, probedWithin)
	}
	p.Changing = p.Settles > 0
}

// changeable returns plan.Spec.InPlace for a revision: every other revision whose pods run in the same places.
func (c *controller) changeable(to string) map[string]bool {
	sc := c.w.sc
	if !sc.InPlace || c.old {
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

// idle reports whether the last decision leaves nothing to do.
func (c *controller) idle() bool {
	return len(c.out.Deletes)+len(c.out.Creates)+len(c.out.Changes) == 0
}

// begins reports whether, between these two versions of a pod, its containers have become those of its last change: the
// time that it has been ready counts from then.
func begins(old, now *pod) bool {
	switch {
	case !old.Changed.Equal(now.Changed):
		return true
	case !old.Changing:
		return false
	case old.Settles == 0:
		return !now.Changing || now.Settles > 0
	}
	if now.Changing {
		return now.Settles != old.Settles // others are in doubt now, for another reason
	}
	return !now.settled // the containers that were in doubt have been replaced
}

// settles copies what was known about a pod: once the doubt about its last change has ended, it does not come back.
func (p *pod) settles(old *pod, now time.Time) {
	if old == nil || old.Hash != p.Hash || !old.Changed.Equal(p.Changed) {
		return
	}
	over := old.Ready && old.Changing && old.Settles > 0 && !old.ReadySince.Add(old.Settles).After(now)
	if p.settled = old.settled || over; p.settled {
		p.Changing, p.Settles = false, 0
	}
}

// change turns the pod of a write into one of another revision, if the pod still is what the write expects.
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
	a.w.kubelets.restarts(p)
	a.w.tracef("api      %s is changed from %s to %s", p.Name, p.Hash, w.hash)
	return answer{pod: a.putPod(p, func(p *pod) {
		r := &record{hash: w.hash, asked: p.asked + 1, before: p.shown}
		for i := range r.changed {
			r.changed[i] = image(p.asks, i) != image(w.hash, i)
		}
		p.Hash, p.Generation, p.asks, p.asked, p.record = w.hash, w.generation(), w.hash, r.asked, r
		p.Changed, p.WasReady = a.w.stampOf("engine"), false
	})}
}

// later does something on behalf of a container, unless the container has been replaced by then.
func (k *kubelets) later(uid string, d time.Duration, do func()) {
	l := k.life(uid)
	term := l.term
	k.w.after(d, func() {
		if l.term == term {
			do()
		}
	})
}

// restarts ends a container and starts it again at this moment, before anybody is told.
func (k *kubelets) restarts(p *pod) {
	if l := k.life(p.UID); l.wants == "" && k.w.chance(20) {
		l.boxes[0] = k.box(l.boxes[0].image)
		l.restarted, l.way = true, k.w.rng.IntN(waysToSay)
	}
}

func (k *kubelets) box(image string) box {
	k.made++
	return box{k.made, image, true}
}

// wakes makes a kubelet look at a pod that has changed: soon, or once it is done with other pods or reaches the server
// again.
func (k *kubelets) wakes(p *pod) {
	l, uid := k.life(p.UID), p.UID
	if l.woken || l.wants != "" {
		return
	}
	l.woken = true
	pause := k.w.between(10*time.Millisecond, time.Second)
	if k.w.chance(10) {
		pause = k.w.between(time.Second, 40*time.Second)
	}
	k.w.after(pause, func() {
		l.woken = false
		k.round(uid)
	})
}

// round is one pass of a kubelet over a pod: it reports, and then replaces the containers with those that the pod asks for
// now. What the pod asks for meanwhile waits for the next round.
func (k *kubelets) round(uid string) {
	p, l := k.running(uid), k.life(uid)
	if p == nil || l.wants != "" {
		return // the next look comes when the node is back
	}
	p, news, late := k.report(p)
	switch {
	case !madeOf(p.asks, &l.boxes):
		l.wants, l.up = p.asks, false
		l.term++
		k.w.after(k.takes(p), func() { k.finish(uid) })
	case news:
		k.goesOn(p)
	case late && !p.Ready:
		k.behave(p)
	}
}

// takes returns how long a round takes: containers end one after the other, and each image is pulled. A container that has
// failed waits.
func (k *kubelets) takes(p *pod) (all time.Duration) {
	l := k.life(p.UID)
	for i := range l.boxes {
		switch b := &l.boxes[i]; {
		case b.image == image(p.asks, i) && b.running:
			continue
		case b.running:
			all += k.termination(p)
		default:
			all += k.w.between(time.Second, 10*time.Second)
		}
		if all += k.w.between(0, time.Second); k.w.chance(15) && !l.restarted {
			all += k.w.between(20*time.Second, time.Minute)
		}
	}
	return all
}

// finish ends a round: the new containers run, except those that ended at once or whose images could not be pulled.
func (k *kubelets) finish(uid string) {
	l := k.life(uid)
	for i := range l.boxes {
		b, wants := &l.boxes[i], image(l.wants, i)
		switch {
		case b.image == wants && b.running:
		case !k.w.healed && k.w.chance(10):
			b.running = false // still the old one, as far as anybody reports
		default:
			*b = k.box(wants)
			b.running = k.w.healed || !k.w.chance(10)
		}
	}
	k.w.tracef("kubelet  %s has containers of %s: %v", uid, l.wants, l.boxes)
	l.wants, l.restarted, l.way = "", false, k.w.rng.IntN(waysToSay)
	k.round(uid)
}

// The ways in which a kubelet reports that a pod has new containers.
const (
	probed   = iota // not ready until they are probed
	unprobed        // ready once they run
	taken           // reported ready because the old ones were, though they are not
	waysToSay
)

// report reports the containers, and marks the current version of the pod as seen. news means that they differ from the
// last report, late that the pod has changed since then.
func (k *kubelets) report(p *pod) (now *pod, news, late bool) {
	l := k.life(p.UID)
	if news, late = p.shown != l.boxes, p.seen < p.asked; !news && !late {
		return p, false, false
	}
	up := l.boxes[0].running && l.boxes[1].running
	if b := k.behaviour(p); !p.Ready || !up || l.way != taken && b != Good && b != Lingers {
		l.way = probed
	}
	return k.w.api.putPod(p, func(p *pod) {
		p.seen, p.shown = p.asked, l.boxes
		switch {
		case !news:
		case l.way == probed:
			k.w.stampReady(p, false, p.Node)
		case l.way == unprobed:
			k.w.restampReady(p)
		case l.way == taken:
			k.w.restampReady(p)
			p.passes, p.readyAt = true, never
		}
	}), news, late
}

// goesOn makes new containers do what their revision does.
func (k *kubelets) goesOn(p *pod) {
	l, uid := k.life(p.UID), p.UID
	switch l.way {
	case probed:
		k.behave(p)
	case unprobed:
		l.up = true
	case taken:
		k.later(uid, 700*time.Millisecond, func() {
			k.ready(uid, false)
			if p := k.running(uid); p != nil {
				k.behave(p)
			}
		})
	}
}

// never is longer than any run lasts.
const never = 1000 * time.Hour

// restampReady is for new containers of a pod that stays ready: its ready time becomes their start, by the kubelet's clock,
// if that is later than what was written before.
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
	case !k.w.kubelets.allOf(p):
		k.w.fail("P3: %s is changed to %s while its last change is under way", p.Name, w.hash)
	case p.Ready && !w.ready:
		k.w.fail("premise: %s is changed for not being ready; it is", p.Name)
	}
}

// allOf reports whether the containers of the pod, and those that its kubelet is about to start, belong to the revision
// that it asks for.
func (k *kubelets) allOf(p *pod) bool {
	l := k.life(p.UID)
	for i := range l.boxes {
		if l.boxes[i].image != image(p.asks, i) {
			return false
		}
	}
	return l.wants == "" || l.wants == p.asks
}

// judgeChanges checks changes against the budget: a changed pod does not count as serving until it is seen to serve.
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
