package engine

// Updates in place. Which pods may be changed where they run is decided by their revision's template and that which
// they are to be of; here are the templates, and what comes of them. The change itself is in send.go.

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

// inPlace is what a DaemonSet's pods may become where they run. The zero value: nothing.
type inPlace struct {
	// templates are those of the revisions that have pods, by hash; nil: the revision is gone, or cannot be read.
	templates map[string]*corev1.PodTemplateSpec
	// toTarget and toStable are the revisions whose templates allow it; target and stable, as far as admission does,
	// too: plan.Spec.InPlace of the two.
	toTarget, toStable, target, stable map[string]bool
	// admitted is, by hash, whether a new pod of a revision would be let in as it is; see admits.
	admitted map[string]bool
	askAgain time.Time // not before
}

// weighInPlace works out which revisions' pods may be changed in place, for the decision that follows. Where that is
// not what it was, the decision looks at every node.
func (e *engine) weighInPlace(ctx context.Context, set *setEntry, hash string, st *state) error {
	before, c := st.inPlace, &st.course
	asks, err := view.AsksInPlace(set.ds)
	e.tellUpdate(set.ds, st, err)
	if !asks || c.assists || set.spec.Surges() {
		st.inPlace = inPlace{}
	} else if err := e.readTemplates(ctx, set, hash, st); err != nil {
		return err
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
	return nil
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

// readTemplates reads what it lacks, once, and compares.
func (e *engine) readTemplates(ctx context.Context, set *setEntry, hash string, st *state) error {
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
		template, read := p.templates[of]
		if !read {
			var err error
			if template, err = e.readTemplate(ctx, set.ds, of); err != nil {
				return err
			}
		}
		known[of] = template
	}
	if maps.Equal(known, p.templates) {
		return nil
	}
	p.templates, p.toTarget, p.toStable = known, changeable(known, &set.ds.Spec.Template), nil
	if withStable {
		p.toStable = changeable(known, &stable.ds.Spec.Template)
	}
	return nil
}

// admits says whether a new pod of the revision would be let in, and as its template is. There is admission that looks at
// new pods alone. What it refuses or rewrites must not come in by a change of a pod that is there, which we may write and
// the author of the DaemonSet may not. So once for each revision the server is asked to make such a pod, and not to keep it.
func (e *engine) admits(ctx context.Context, ds *appsv1.DaemonSet, hash string, st *state) bool {
	p := &st.inPlace
	if is, known := p.admitted[hash]; known || time.Now().Before(p.askAgain) {
		return is
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
	p.admitted = with(p.admitted, hash, err == nil)
	if err != nil {
		e.events.event(ds, corev1.EventTypeWarning, "NotInPlace", "Pods are updated by deletion, because a new one of revision %s would not be let in as it is: %v", hash, err)
	}
	return err == nil
}

// askAgainAfter is how long after a question without an answer it is asked again.
const askAgainAfter = 10 * time.Second

// readTemplate is that of one of the DaemonSet's revisions; nil when it is gone or cannot be read.
func (e *engine) readTemplate(ctx context.Context, ds *appsv1.DaemonSet, hash string) (*corev1.PodTemplateSpec, error) {
	name := e.index.revisionName(ds, hash)
	if name == "" {
		return nil, nil
	}
	r, err := e.api.getRevision(ctx, ds.Namespace, name)
	switch {
	case missing(err, name):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading revision %s, to update its pods in place: %w", name, err)
	}
	at, err := view.AtRevision(ds, r)
	if err != nil {
		e.log.Warn("the pods of a revision are not updated in place", "daemonSet", keyOf(ds).String(), "error", err)
		return nil, nil
	}
	return &at.Spec.Template, nil
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

// unfit remembers of a pod that it cannot be changed in place.
func (ix *index) unfit(uid string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	old := ix.pods[uid]
	if old == nil || old.unfit {
		return
	}
	e := *old // who looks at the old one may still do so
	e.unfit, e.Unchangeable = true, true
	ix.unlinkPod(old)
	ix.linkPod(&e)
	ix.mark(ix.owned[e.owner], e.Node)
}
