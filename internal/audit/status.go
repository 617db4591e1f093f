package audit

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"everynode/internal/view"
)

// quiet is how long nothing may happen in an update before it counts as stuck.
// The time that one pod may take by its manifest is added.
const quiet = 30 * time.Minute

// judgeStatus is about how the last update went. Nothing is known about a
// specification that no controller has seen yet.
func (j *judgement) judgeStatus() {
	status := &j.ds.Status
	seen := status.ObservedGeneration > 0 && status.ObservedGeneration >= j.ds.Generation
	older := int(status.CurrentNumberScheduled - status.UpdatedNumberScheduled)
	if !seen {
		older = 0
	}
	switch {
	case older <= 0:
	case !j.rolls():
		j.find(HalfRolled, Medium, j.on(older), "with OnDelete, %s an older revision", run(older))
		j.try("everynode why daemonset/%s -n %s --reason WaitingForDeletion", j.ds.Name, j.namespace())
	default:
		j.judgeProgress(older)
	}
	j.judgeRevisions(older)
	j.judgeDown(older)
}

// run returns "3 nodes run".
func run(nodes int) string {
	if nodes == 1 {
		return "1 node runs"
	}
	return fmt.Sprintf("%d nodes run", nodes)
}

// judgeProgress is about an update that is half done, and since when. It finds
// nothing if it is not known when the template was written.
func (j *judgement) judgeProgress(older int) {
	last, known := view.SpecWritten(j.ds)
	if !known || j.in.Now.IsZero() {
		return
	}
	for _, p := range j.pods {
		if p.Created.After(last) {
			last = p.Created
		}
	}
	onePod := time.Duration(j.ds.Spec.MinReadySeconds)*time.Second + time.Duration(*j.pod.TerminationGracePeriodSeconds)*time.Second
	idle := j.in.Now.Sub(last)
	if idle <= quiet+onePod {
		return
	}
	j.find(UpdateStuck, Medium, j.on(older), "%s an older revision, and nothing has been seen to happen for %s", run(older), duration.HumanDuration(idle))
	j.try("everynode why daemonset/%s -n %s --not-ok -o wide", j.ds.Name, j.namespace())
	j.try("kubectl rollout history daemonset/%s -n %s", j.ds.Name, j.namespace())
}

// judgeRevisions is about pods of more revisions than one update makes.
func (j *judgement) judgeRevisions(older int) {
	hashes := map[string]bool{}
	for _, p := range j.pods {
		hashes[p.Hash] = true
	}
	if older > 0 && len(hashes) > 2 {
		j.find(MixedRevisions, Medium, j.on(older), "its pods are of %d revisions", len(hashes))
		j.try("kubectl get pods -n %s -l '%s' -o wide -L controller-revision-hash", j.namespace(), metav1.FormatLabelSelector(j.ds.Spec.Selector))
	}
}

// judgeDown is about nodes that are down and keep Kubernetes' own controller from
// updating the others. It is worse while an update waits for them.
func (j *judgement) judgeDown(older int) {
	budget := max(j.spec.MaxUnavailable.Of(j.desired), 1)
	down := 0
	for _, n := range j.runs {
		if n.down {
			down++
		}
	}
	onDelete := j.ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType // Kubernetes' controller updates none
	if onDelete || j.spec.Surges() || down < budget || down == j.desired {
		return
	}
	severity := Low
	if older > 0 {
		severity = Medium
	}
	j.find(NodesDownHoldUpdate, severity, j.on(j.desired-down), "%s not Ready, and maxUnavailable allows for %d", are(down, "node"), budget)
	j.try("everynode why daemonset/%s -n %s --not-ok", j.ds.Name, j.namespace())
}

// are returns "1 node is" or "3 nodes are".
func are(n int, what string) string {
	if n == 1 {
		return counted(n, what) + " is"
	}
	return counted(n, what) + " are"
}
