package engine

// Updates in place. Whether pods may be changed in place depends on the template of their revision and the template
// that they should get; this file reads and compares the templates. The change itself is in send.go.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// inPlace is what a DaemonSet's pods may be changed to in place. The zero value: nothing.
type inPlace struct {
	// templates are those of the revisions that have pods, by hash; nil: the revision is gone, or cannot be read.
	templates map[string]*corev1.PodTemplateSpec
	// toTarget and toStable are the revisions whose templates allow it; target and stable those that admission allows
	// as well: plan.Spec.InPlace of the two.
	toTarget, toStable, target, stable map[string]bool
	// admitted is, by hash, whether a new pod of a revision would be admitted unchanged; see admits.
	admitted map[string]admission
	// to is the revisions that pods should get; that of a release that may go back comes second.
	to       [2]string
	askAgain time.Time // not before this time: whether pods are admitted
	readAt   time.Time // when reading a revision last failed; zero: all were read
}

// admission is what the API server has answered about new pods of a revision, when, and what such a pod would be.
type admission struct {
	is   bool
	at   time.Time
	made *corev1.Pod
}

// weighInPlace computes which revisions' pods may be changed in place, for the decision that follows. If that has
// changed, the decision looks at every node.
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

// heads drops the answers about new pods of revisions that pods should get again: admission may have changed since.
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

// tellUpdate reports, once, what is wrong with the annotation that asks for updates in place; nil: nothing.
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
		e.log.Warn("a DaemonSet has an invalid value for how its pods are updated", "daemonSet", keyOf(ds).String(), "err", text)
	}
}

// readTemplates reads missing templates, once, and compares them. Pods of a revision that cannot be read are not
// changed for now.
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

// admits reports whether a new pod of the revision would be admitted, and unchanged. Some admission checks look only at
// new pods. What they refuse or rewrite must not get in by a change of an existing pod, which the engine may write and
// the author of the DaemonSet may not. So the server is asked to create such a pod in a dry run: whenever pods should
// get a revision, and again after a while.
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
		err = fmt.Errorf("the quota has no room for the pod, so nobody sees what admission makes of it: %w", err)
	case fate != delivery.Refused:
		p.askAgain = time.Now().Add(askAgainAfter)
		e.log.Warn("cannot tell whether pods can be updated in place; updating them by deletion for now", "daemonSet", keyOf(ds).String(), "err", err)
		return false
	}
	p.admitted = with(p.admitted, hash, admission{err == nil, time.Now(), made})
	if err != nil && (!known || said.is) {
		e.events.event(ds, corev1.EventTypeWarning, "NotInPlace", "Pods are updated by deletion, because a new pod of revision %s would not be admitted unchanged: %v", hash, err)
	}
	return err == nil
}

// askAgainAfter is how long after an unanswered request it is sent again.
const askAgainAfter = 10 * time.Second

// admissionHolds is how long an answer about new pods is used. Admission may change at any time.
const admissionHolds = 5 * time.Minute

// readTemplate reads the template of one of the DaemonSet's revisions; nil if it is gone or unusable. False: there was
// no answer, now or recently.
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
		e.log.Warn("cannot read a revision; updating its pods by deletion for now", "daemonSet", keyOf(ds).String(), "revision", name, "err", err)
		return false
	}
	at, err := view.AtRevision(ds, r)
	if err != nil {
		e.log.Warn("the pods of a revision are not updated in place", "daemonSet", keyOf(ds).String(), "err", err)
		return true
	}
	*template = &at.Spec.Template
	return true
}

// changeable returns the hashes of the revisions whose pods can be changed to the template; nil: none.
func changeable(from map[string]*corev1.PodTemplateSpec, to *corev1.PodTemplateSpec) (hashes map[string]bool) {
	for hash, template := range from {
		if template != nil && template != to && view.NotInPlace(template, to) == nil {
			hashes = with(hashes, hash, true)
		}
	}
	return hashes
}

// changes returns the write of a change; nil if its premises have changed since it was decided.
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
	w.like = st.inPlace.admitted[w.hash].made
	st.rolling = true
	return &w
}

// unfit remembers that a pod cannot be changed in place: permanently, or until something happens to it.
func (ix *index) unfit(uid string, forGood bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	old := ix.pods[uid]
	if old == nil || old.unfit || old.Unchangeable && !forGood {
		return
	}
	e := *old // others may still be reading the old one
	e.unfit, e.Unchangeable = forGood, true
	ix.unlinkPod(old)
	ix.linkPod(&e)
	ix.mark(ix.owned[e.owner], e.Node)
}
