package engine

// What to say when the cluster lacks the kinds of releases in waves. A cluster that never had them needs none. But if
// they are deleted, all policies go with them, and a DaemonSet that a policy had chosen by its labels looks like one
// that never followed a policy: its next template goes to all nodes. Nothing about the DaemonSet shows that.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// kindStates is what is known about the kinds of releases in waves, by resource.
type kindStates struct {
	had     map[string]bool // the cluster has, or had, the kind
	lacking map[string]bool // it does not have the kind now
	told    map[string]bool // the log says so
}

func newKindStates() kindStates {
	return kindStates{had: map[string]bool{}, lacking: map[string]bool{}, told: map[string]bool{}}
}

// listed records that the cluster has the kind.
func (k *kindStates) listed(resource string) {
	k.had[resource] = true
	delete(k.lacking, resource)
	delete(k.told, resource)
}

// lacks records that a request for the kind was answered by "not found", or, if denied, by "forbidden", which says
// nothing about the kind. It reports whether the log must say that the kind is missing: once, if it should be there.
func (k *kindStates) lacks(resource string, denied bool, sets map[types.NamespacedName]*setEntry) (news bool) {
	if denied {
		delete(k.lacking, resource)
		return false
	}
	k.lacking[resource] = true
	if missing, _ := k.missing(sets); k.told[resource] || !slices.Contains(missing, resource) {
		return false
	}
	k.told[resource] = true
	return true
}

// missing returns the resources of the kinds that the cluster lacks, although it had them or a DaemonSet names a policy;
// and how many DaemonSets name one.
func (k *kindStates) missing(sets map[types.NamespacedName]*setEntry) (missing []string, named int) {
	if len(k.lacking) == 0 {
		return nil, 0
	}
	for _, s := range sets {
		if _, names := s.ds.Annotations[view.PolicyAnnotation]; names {
			named++
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(k.lacking)) {
		if named > 0 || k.had[resource] {
			missing = append(missing, resource)
		}
	}
	return missing, named
}

// lacksKind records that the cluster does not have a kind of releases in waves, or, if denied, does not let us read it. It
// reports whether the log must say that.
func (ix *index) lacksKind(resource string, denied bool) (news bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	r := &ix.releases
	if resource == view.PolicyResource && (!r.absent || r.denied != denied) {
		r.absent, r.denied = true, denied
		ix.touchAll()
	}
	return r.kinds.lacks(resource, denied, ix.sets)
}

// Notes returns what people should know although it does not keep the engine from its work, one sentence each.
func (m *Monitor) Notes() (notes []string) {
	m.mu.Lock()
	ix := m.index
	m.mu.Unlock()
	if ix == nil {
		return nil
	}
	s := ix.size(time.Now())
	if len(s.missing) == 0 {
		return nil
	}
	note := fmt.Sprintf("the cluster lacks the kinds of releases in waves (%s)", strings.Join(s.missing, ", "))
	if !slices.Contains(s.missing, view.PolicyResource) {
		return append(notes, note+": no release of a DaemonSet that follows a policy continues, because its state cannot be saved")
	}
	return append(notes, fmt.Sprintf("%s: the DaemonSets that name a policy (%d) get no new revision, and all others are updated without waves", note, s.named))
}
