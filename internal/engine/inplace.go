package engine

// Updates in place. Which pods may be changed where they run is decided by their revision's template and that which
// they are to be of; here are the templates, and what comes of them. The change itself is in send.go.

import (
	"context"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// inPlace is what a DaemonSet's pods may become where they run. The zero value: nothing.
type inPlace struct {
	// templates are those of the revisions that have pods, by hash; nil: the revision is gone, or cannot be read.
	templates map[string]*corev1.PodTemplateSpec
	// target and stable are plan.Spec.InPlace of the two.
	target, stable map[string]bool
}

// weighInPlace works out which revisions' pods may be changed in place, for the decision that follows. Where that is
// not what it was, the decision looks at every node.
func (e *engine) weighInPlace(ctx context.Context, set *setEntry, hash string, st *state) error {
	before := st.inPlace
	asks, err := view.AsksInPlace(set.ds)
	e.tellUpdate(set.ds, st, err)
	if !asks || st.course.assists || set.spec.Surges() {
		st.inPlace = inPlace{}
	} else if err := e.readTemplates(ctx, set, hash, st); err != nil {
		return err
	}
	if !maps.Equal(before.target, st.inPlace.target) || !maps.Equal(before.stable, st.inPlace.stable) {
		st.set = nil
	}
	if r := st.course.release; r != nil {
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
	*p = inPlace{templates: known, target: changeable(known, &set.ds.Spec.Template)}
	if withStable {
		p.stable = changeable(known, &stable.ds.Spec.Template)
	}
	return nil
}

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
