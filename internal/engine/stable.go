package engine

import (
	"context"
	"fmt"
	"maps"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// stableRevision is what pods of the stable revision are made from.
type stableRevision struct {
	hash string
	// data is the revision as stored; of is the DaemonSet whose template it replaces.
	data  *appsv1.ControllerRevision
	of    *appsv1.DaemonSet
	ds    *appsv1.DaemonSet // with the template of the revision
	spec  plan.Spec
	heavy bool // its placement: see isHeavy
	mold  func() (*view.Mold, error)
	gone  error // why no pods can be made from it; nil: they can
}

// needStable makes sure that the stable revision is loaded. The history keeps no data, so it is read, once. A missing
// revision is not an error here: running pods keep running.
func (e *engine) needStable(ctx context.Context, set *setEntry, c *course) error {
	old := c.stable
	if old != nil && old.hash != c.state.Stable {
		old = nil
	}
	name := e.index.revisionName(set.ds, c.state.Stable)
	same := old != nil && old.of.Generation == set.ds.Generation && maps.Equal(old.of.Annotations, set.ds.Annotations)
	if same && (old.data != nil || name == "") {
		return nil
	}
	var data *appsv1.ControllerRevision
	if old != nil {
		data = old.data
	}
	if data == nil && name != "" {
		live, err := e.api.getRevision(ctx, set.ds.Namespace, name)
		if err != nil && !missing(err, name) {
			return fmt.Errorf("reading the stable revision %s: %w", name, err)
		}
		data = live
		if err != nil {
			data = nil
		}
	}
	c.stable = e.stableFrom(set, c.state.Stable, data)
	return nil
}

func (e *engine) stableFrom(set *setEntry, hash string, data *appsv1.ControllerRevision) *stableRevision {
	s := &stableRevision{hash: hash, data: data, of: set.ds, ds: set.ds, spec: set.spec}
	s.spec.Hash, s.spec.Generation, s.spec.Strategy = hash, 0, plan.RollingUpdate
	if data == nil {
		s.gone = fmt.Errorf("there is no ControllerRevision with the hash %s of the stable revision", hash)
	} else {
		s.ds, s.gone = view.AtRevision(set.ds, data)
	}
	var at plan.Spec
	if s.gone == nil {
		if at = view.Spec(s.ds, hash); at.Halt != plan.NoReason {
			s.gone = fmt.Errorf("the template of ControllerRevision %s cannot be used: %s", data.Name, at.HaltDetail)
		}
	}
	if s.gone != nil {
		s.ds, s.mold = set.ds, func() (*view.Mold, error) { return nil, s.gone }
		return s
	}
	s.spec.Placement, s.spec.Scheduled, s.heavy = at.Placement, e.index.scheduled(s.ds), isHeavy(&at.Placement)
	s.mold = sync.OnceValues(func() (*view.Mold, error) { return view.NewMold(s.ds, hash) })
	return s
}

// revisionName returns the name of the DaemonSet's revision of that hash; empty if there is none.
func (ix *index) revisionName(ds *appsv1.DaemonSet, hash string) string {
	for _, r := range ix.revisionsOf(ds) {
		if r.Object.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash && metav1.IsControlledBy(r.Object, ds) {
			return r.Object.Name
		}
	}
	return ""
}

// scheduled reports whether the scheduler binds the pods of the template.
func (ix *index) scheduled(ds *appsv1.DaemonSet) bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	is, _ := ix.binding.Scheduled(ds) // errors in the annotation are reported for the DaemonSet itself
	return is
}
