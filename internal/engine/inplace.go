package engine

// Updates in place. Which pods may be changed where they run is decided by their revision's template and that which
// they are to be of; here are the templates, and what comes of them. The change itself is in send.go.

import (
	"context"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// inPlace is what a DaemonSet's pods may become where they run. The zero value: nothing.
type inPlace struct {
	// templates are those of the revisions that have pods, by hash; nil: the revision is gone, or cannot be read.
	templates map[string]*corev1.PodTemplateSpec
	// toTarget and toStable are the revisions whose templates allow it; target and stable, as far as admission does,
	// too: plan.Spec.InPlace of the two.
	toTarget, toStable, target, stable map[string]bool
	// admitted is, by hash, whether a new pod of a revision would be let in as it is; see admits.
	admitted map[string]admission
	// to is what revisions pods were last to become; that of a release that may go back comes second.
	to       [2]string
	askAgain time.Time // whether pods are admitted: not before
	readAt   time.Time // when a revision could last not be read; zero: all could
}

// admission is what the API server has said of new pods of a revision, and when.
type admission struct {
	is bool
	at time.Time
}

// weighInPlace works out which revisions' pods may be changed in place, for the decision that follows. Where that is
// not what it was, the decision looks at every node.
func (e *engine) weighInPlace(ctx context.Context, set *setEntry, hash string, st *state) {
	before, c := st.inPlace, &st.course
	asks, err := view.AsksInPlace(set.ds)
	e.tellUpdate(set.ds, st, err)
	if !asks || c.assists || set.spec.Surges() {
		st.inPlace = inPlace{}
	} else {
		e.readTemplates(ctx, set, hash, st)
		st.inPlace.heads(hash, c.stable)
	}
	st.inPlace.target, st.inPlace.stable = nil, nil
	if len(st.inPlace.toTarget) > 0 && e.admits(ctx, set.ds, hash, st) {
		st.inPlace.target = st.inPlace.toTarget
	}
	if len(st.inPlace.toStable) > 0 && e.admits(ctx, c.stable.ds, c.stable.hash, st) {
		st.inPlace.stable = st.inPlace.toStable
	}
	if !maps.Equal(before.target, st.inPlace.target) || !maps.Equal(before.stable, st.inPlace.stable) {
		st.set = nil
	}
	if r := c.release; r != nil {
		r.Stable.InPlace = st.inPlace.stable
	}
}

// heads forgets what was said of new pods of revisions that pods are to become again: whoever admits them may have changed
// his mind since.
func (p *inPlace) heads(hash string, stable *stableRevision) {
	to := [2]string{hash}
	if stable != nil {
		to[1] = stable.hash
	}
	for i := range to {
		if to[i] != p.to[i] {
			delete(p.admitted, to[i])
		}
	}
	p.to = to
}

// tellUpdate says, once, what is wrong with the annotation that asks for updates in place; nil: nothing.
func (e *engine) tellUpdate(ds *appsv1.DaemonSet, st *state, wrong error) {
	text := ""
	if wrong != nil {
		text = wrong.Error()
	}
	if text == st.update {
		return
	}
	if st.update = text; text != "" {
		e.events.event(ds, corev1.EventTypeWarning, "InvalidUpdate", "%s", text)
		e.log.Warn("a DaemonSet does not say how its pods are updated", "daemonSet", keyOf(ds).String(), "error", text)
	}
}

// readTemplates reads what it lacks, once, and compares. Pods of a revision that cannot be read are not changed, for now.
func (e *engine) readTemplates(ctx context.Context, set *setEntry, hash string, st *state) {
	p, stable := &st.inPlace, st.course.stable
	known := map[string]*corev1.PodTemplateSpec{hash: &set.ds.Spec.Template}
	withStable := st.course.release != nil && stable != nil && stable.gone == nil
	if withStable {
		known[stable.hash] = &stable.ds.Spec.Template
	}
	for of := range e.liveHashes(set.ds) {
		if known[of] != nil {
			continue
		}
		if template, read := p.templates[of]; read || e.readTemplate(ctx, set.ds, of, st, &template) {
			known[of] = template
		}
	}
	if maps.Equal(known, p.templates) {
		return
	}
	p.templates, p.toTarget, p.toStable = known, changeable(known, &set.ds.Spec.Template), nil
	if withStable {
		p.toStable = changeable(known, &stable.ds.Spec.Template)
	}
}

// admits says whether a new pod of the revision would be let in, and as its template is. There is admission that looks at
// new pods alone. What it refuses or rewrites must not come in by a change of a pod that is there, which we may write and
// the author of the DaemonSet may not. So the server is asked to make such a pod, and not to keep it: whenever pods are to become
// ones of a revision, and again after a while.
func (e *engine) admits(ctx context.Context, ds *appsv1.DaemonSet, hash string, st *state) bool {
	p := &st.inPlace
	said, known := p.admitted[hash]
	if fresh := known && time.Since(said.at) < admissionHolds; fresh || time.Now().Before(p.askAgain) {
		return fresh && said.is
	}
	made, err := e.api.tryPod(ctx, view.NewPod(ds, hash, plan.Create{}, ""))
	fate, _ := judge(ctx, err)
	switch {
	case err == nil:
		err = view.Rewritten(made, &ds.Spec.Template)
	case fate == delivery.OverQuota:
		err = nil // the quota is asked last: all others have let it in
	case fate != delivery.Refused:
		p.askAgain = time.Now().Add(askAgainAfter)
		e.log.Warn("whether pods can be updated in place is not known; they are updated by deletion for now", "daemonSet", keyOf(ds).String(), "error", err)
		return false
	}
	p.admitted = with(p.admitted, hash, admission{err == nil, time.Now()})
	if err != nil && (!known || said.is) {
		e.events.event(ds, corev1.EventTypeWarning, "NotInPlace", "Pods are updated by deletion, because a new one of revision %s would not be let in as it is: %v", hash, err)
	}
	return err == nil
}

// askAgainAfter is how long after a question without an answer it is asked again.
const askAgainAfter = 10 * time.Second

// admissionHolds is how long what was said of new pods holds. What admits them may change at any time.
const admissionHolds = 5 * time.Minute

// readTemplate reads that of one of the DaemonSet's revisions; nil when it is gone or means nothing. False: no answer came, or
// none has come lately.
func (e *engine) readTemplate(ctx context.Context, ds *appsv1.DaemonSet, hash string, st *state, template **corev1.PodTemplateSpec) (read bool) {
	name := e.index.revisionName(ds, hash)
	if name == "" {
		return true
	}
	if time.Since(st.inPlace.readAt) < askAgainAfter {
		return false
	}
	r, err := e.api.getRevision(ctx, ds.Namespace, name)
	switch {
	case missing(err, name):
		return true
	case err != nil:
		st.inPlace.readAt = time.Now()
		e.log.Warn("a revision cannot be read; its pods are updated by deletion for now", "daemonSet", keyOf(ds).String(), "revision", name, "error", err)
		return false
	}
	at, err := view.AtRevision(ds, r)
	if err != nil {
		e.log.Warn("the pods of a revision are not updated in place", "daemonSet", keyOf(ds).String(), "error", err)
		return true
	}
	*template = &at.Spec.Template
	return true
}

// changeable is the hashes of those whose pods can become ones of the template; nil: none.
func changeable(from map[string]*corev1.PodTemplateSpec, to *corev1.PodTemplateSpec) (hashes map[string]bool) {
	for hash, template := range from {
		if template != nil && template != to && view.NotInPlace(template, to) == nil {
			hashes = with(hashes, hash, true)
		}
	}
	return hashes
}

// changes is the write of a change; nil when what it rests on has changed since it was decided.
func (st *state) changes(w write, c *plan.Change, pods []*podEntry) *write {
	i := slices.IndexFunc(pods, func(p *podEntry) bool { return p.UID == c.UID })
	if w.from = st.inPlace.templates[c.From]; w.from == nil || i < 0 {
		return nil
	}
	course := &st.course
	w.change, w.rests, w.reaches = c, pods[i], course.reaches(c.Reaches)
	if c.Stable {
		w.ds, w.hash, w.mold = course.stable.ds, course.stable.hash, course.stable.mold
	}
	st.rolling = true
	return &w
}

// unfit remembers of a pod that it cannot be changed in place: for good, or until something happens to it.
func (ix *index) unfit(uid string, forGood bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	old := ix.pods[uid]
	if old == nil || old.unfit || old.Unchangeable && !forGood {
		return
	}
	e := *old // who looks at the old one may still do so
	e.unfit, e.Unchangeable = forGood, true
	ix.unlinkPod(old)
	ix.linkPod(&e)
	ix.mark(ix.owned[e.owner], e.Node)
}
