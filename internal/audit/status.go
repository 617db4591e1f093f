package audit

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"everynode/internal/view"
)

// quiet is how long nothing may happen in an update before it counts as stuck,
// beside what one pod may take by its manifest.
const quiet = 30 * time.Minute

// judgeStatus is about what the last update has come to. Of a specification that
// no controller has seen yet nothing is known.
func (s *subject) judgeStatus() {
	status := &s.ds.Status
	seen := status.ObservedGeneration > 0 && status.ObservedGeneration >= s.ds.Generation
	older := int(status.CurrentNumberScheduled - status.UpdatedNumberScheduled)
	if !seen {
		older = 0
	}
	switch {
	case older <= 0:
	case !s.rolls():
		s.find(HalfRolled, Medium, s.on(older), "with OnDelete, %s an older revision", run(older))
		s.try("everynode why daemonset/%s -n %s --reason WaitingForDeletion", s.ds.Name, s.namespace())
	default:
		s.judgeProgress(older)
	}
	s.judgeRevisions(older)
	s.judgeDown(older)
}

// run is "3 nodes run".
func run(nodes int) string {
	if nodes == 1 {
		return "1 node runs"
	}
	return fmt.Sprintf("%d nodes run", nodes)
}

// judgeProgress is about an update that is half done, and since when. That is not
// known where the API server does not tell when the template was written.
func (s *subject) judgeProgress(older int) {
	last, known := view.SpecWritten(s.ds)
	if !known || s.in.Now.IsZero() {
		return
	}
	for _, p := range s.pods {
		if p.Created.After(last) {
			last = p.Created
		}
	}
	onePod := time.Duration(s.ds.Spec.MinReadySeconds)*time.Second + time.Duration(*s.pod.TerminationGracePeriodSeconds)*time.Second
	idle := s.in.Now.Sub(last)
	if idle <= quiet+onePod {
		return
	}
	s.find(UpdateStuck, Medium, s.on(older), "%s an older revision, and nothing has been seen to happen for %s", run(older), duration.HumanDuration(idle))
	s.try("everynode why daemonset/%s -n %s --not-ok -o wide", s.ds.Name, s.namespace())
	s.try("kubectl rollout history daemonset/%s -n %s", s.ds.Name, s.namespace())
}

// judgeRevisions is about pods of more revisions than one update makes.
func (s *subject) judgeRevisions(older int) {
	hashes := map[string]bool{}
	for _, p := range s.pods {
		hashes[p.Hash] = true
	}
	if older > 0 && len(hashes) > 2 {
		s.find(MixedRevisions, Medium, s.on(older), "its pods are of %d revisions", len(hashes))
		s.try("kubectl get pods -n %s -l '%s' -o wide -L controller-revision-hash", s.namespace(), metav1.FormatLabelSelector(s.ds.Spec.Selector))
	}
}

// judgeDown is about nodes that are down, which keep Kubernetes' own controller
// from updating the others. That is worst while an update waits for it.
func (s *subject) judgeDown(older int) {
	budget := max(s.spec.MaxUnavailable.Of(s.desired), 1)
	down := 0
	for _, n := range s.runs {
		if n.down {
			down++
		}
	}
	if !s.rolls() || s.spec.Surges() || down < budget || down == s.desired {
		return
	}
	severity := Low
	if older > 0 {
		severity = Medium
	}
	s.find(NodesDownHoldUpdate, severity, s.on(s.desired-down), "%s not Ready, and maxUnavailable allows for %d", are(down, "node"), budget)
	s.try("everynode why daemonset/%s -n %s --not-ok", s.ds.Name, s.namespace())
}

// are is "1 node is" or "3 nodes are".
func are(n int, what string) string {
	if n == 1 {
		return counted(n, what) + " is"
	}
	return counted(n, what) + " are"
}
