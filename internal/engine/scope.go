package engine

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// Most pods of a cluster belong to Deployments and Jobs, and do not matter to a DaemonSet. They have
// labels that pods of DaemonSets do not have. So the watch of pods is narrow: it asks for pods
// without these labels, and the server does not send the others.
//
// Anybody may put such a label on a pod, or into the template of a DaemonSet. The rules are:
//
//   - A narrow watch is used only while it is not known to leave out anything that matters: a
//     DaemonSet that names such a label, a pod of a DaemonSet that has one, or an orphan with one
//     that a DaemonSet would adopt. Otherwise all pods are watched.
//   - A pod that leaves a narrow watch without having been deleted counts as before until a live read
//     has shown its state.
//   - A list without such pods is accepted only after a search has found none that belong to
//     DaemonSets.
//   - Before a DaemonSet creates its first pod, a search has found none that it has or would adopt,
//     or it has waited for a list of all pods.
//
// The reasons are in docs/design/foreign-pods.md; podfeed.go follows the watch.

// foreignLabels returns the labels that the pods of Deployments and Jobs have. The last one is the
// name of the one before it from before Kubernetes 1.27; both are still written.
func foreignLabels() [3]string {
	return [...]string{appsv1.DefaultDeploymentUniqueLabelKey, batchv1.JobNameLabel, "job-name"}
}

// narrowSelector returns the label selector of a narrow watch.
func narrowSelector() string {
	keys := foreignLabels()
	return "!" + strings.Join(keys[:], ",!")
}

// looksForeign reports whether a narrow watch leaves out an object with these labels.
func looksForeign(labels map[string]string) bool {
	for _, key := range foreignLabels() {
		if _, is := labels[key]; is {
			return true
		}
	}
	return false
}

// namesForeign reports whether pods of the DaemonSet, or orphans that it would adopt, may look
// foreign.
func namesForeign(ds *appsv1.DaemonSet) bool {
	s := ds.Spec.Selector
	if looksForeign(ds.Spec.Template.Labels) || s != nil && looksForeign(s.MatchLabels) {
		return true
	}
	if s == nil {
		return false
	}
	for _, key := range foreignLabels() {
		for i := range s.MatchExpressions {
			if s.MatchExpressions[i].Key == key {
				return true
			}
		}
	}
	return false
}

// width is why all pods are watched.
type width string

// The reasons.
const (
	narrow      width = ""
	namedBySet  width = "a DaemonSet names a label of Deployments' or Jobs' pods"
	wornByPod   width = "a pod of a DaemonSet has a label of Deployments' or Jobs' pods"
	orphanWears width = "an orphan that a DaemonSet adopts has a label of Deployments' or Jobs' pods"
	foundByRead width = "a read has found such a pod, which matters to a DaemonSet"
)

// scope is which pods the index is shown. The lock of the index guards it.
type scope struct {
	asked bool // a narrow watch is asked for
	shown bool // the last list that was taken was narrow
	sets  int  // DaemonSets that name such a label
	pods  int  // pods of DaemonSets that have one
	found bool // see foundByRead; until a list of all pods is in
	// doubts has the pods that have left a narrow watch, by UID, and are not known to be gone.
	doubts map[string]*podEntry
	// waiting is the UIDs of DaemonSets that wait for a list of all pods.
	waiting map[string]bool
	// changed holds a value when the width may have to change, or there are doubts.
	changed chan struct{}
}

func newScope() scope {
	return scope{doubts: map[string]*podEntry{}, waiting: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (s *scope) tell() {
	select {
	case s.changed <- struct{}{}:
	default: // already signalled
	}
}

// countSet and countPod maintain the counts.
func (s *scope) countSet(e *setEntry, times int) {
	if e.foreign {
		s.sets += times
		s.tell()
	}
}

func (s *scope) countPod(e *podEntry, times int) {
	if !e.foreign {
		return
	}
	if e.owner != "" {
		s.pods += times
	}
	s.tell()
}

// needs returns why all pods must be watched; narrow: they need not be.
func (ix *index) needs() width {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	switch {
	case ix.scope.sets > 0:
		return namedBySet
	case ix.scope.pods > 0:
		return wornByPod
	case ix.scope.found:
		return foundByRead
	}
	for _, in := range ix.orphans {
		for _, e := range in {
			if e.foreign && ix.wouldAdopt(e) {
				return orphanWears
			}
		}
	}
	return narrow
}

// wouldAdopt reports whether a DaemonSet selects the orphan.
func (ix *index) wouldAdopt(e *podEntry) bool {
	return ix.adopter(orphanWith(e.namespace, e.labels.set()))
}

func (ix *index) adopter(orphan metav1.Object) bool {
	for key, s := range ix.sets {
		if key.Namespace == orphan.GetNamespace() && s.selector.Claims(s.ds, orphan) == view.Adopt {
			return true
		}
	}
	return false
}

// matters reports whether a pod that a search has found belongs to a DaemonSet, or would be adopted
// by one.
func (ix *index) matters(p *metav1.PartialObjectMetadata) bool {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return isDaemonSet(ref)
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.adopter(orphanWith(p.Namespace, p.Labels))
}

// asks records which watch of pods is followed from now on.
func (ix *index) asks(narrowly bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.scope.asked = narrowly
}

// podSelector returns the label selector of the pods that the index is shown.
func (ix *index) podSelector() string {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.scope.shown {
		return narrowSelector()
	}
	return ""
}

// findsHidden records that a read has found a pod that matters and that a narrow watch leaves out. If
// uid is not empty, the pod matters to that DaemonSet, which then waits for a list of all pods. It
// returns false if that list has already arrived.
func (ix *index) findsHidden(uid string) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if !ix.scope.shown && !ix.scope.asked {
		return false
	}
	ix.scope.found = true
	if uid != "" {
		ix.scope.waiting[uid] = true
	}
	ix.scope.tell()
	return true
}

// mayHide reports whether the watch may leave out pods of the DaemonSet, because none of its pods are
// known.
func (ix *index) mayHide(uid string) bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	o := ix.owned[uid]
	return ix.scope.shown && o != nil && len(o.first) == 0
}

// taken updates the scope after a list of pods.
func (ix *index) taken() {
	s := &ix.scope
	s.shown = s.asked
	clear(s.doubts) // the list tells, and the search before it
	if s.shown {
		return
	}
	s.found = false
	for uid := range s.waiting {
		if o := ix.owned[uid]; o != nil && o.set != nil {
			o.unclaimed = true
			ix.touch(o.key)
		}
	}
	clear(s.waiting)
}

// doubt remembers a pod that has left a narrow watch but may still exist.
func (s *scope) doubt(e *podEntry) {
	s.doubts[e.UID] = e
	s.tell()
}

// doubted returns the pods to read.
func (ix *index) doubted() (all []*podEntry) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for _, e := range ix.scope.doubts {
		all = append(all, e)
	}
	return all
}

// confirmGone takes a live read that did not find a pod in doubt. If a watch has shown it since, that
// watch will show its end as well.
func (ix *index) confirmGone(uid string) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if _, is := ix.scope.doubts[uid]; !is {
		return
	}
	delete(ix.scope.doubts, uid)
	if e := ix.pods[uid]; e != nil {
		ix.dropPod(e)
	}
}

// confirmThere takes a live read that found a pod in doubt.
func (ix *index) confirmThere(live *podEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	delete(ix.scope.doubts, live.UID)
	ix.putPod(live, 0, ix.order.heard)
	if e := ix.pods[live.UID]; e != nil && e.foreign && e.owner == "" && !ix.wouldAdopt(e) {
		ix.dropPod(e) // nothing would show its end
	}
}

// outOfSight reports whether the watch does not show the pod.
func (ix *index) outOfSight(e *podEntry) bool { return ix.scope.shown && e.foreign }
