package audit

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// judgeUpdate is about how the next update will go, by what the manifest says.
func (s *subject) judgeUpdate() {
	if s.rolls() {
		s.judgeBudget()
	}
	s.judgeProof()
	if s.spec.Surges() && view.AsksForPorts(s.pod) {
		s.find(SurgeWithHostPorts, Medium, s.everywhere(), "maxSurge is %s, and the pods want ports of their node", words(s.spec.MaxSurge))
	}
	if limit := s.ds.Spec.RevisionHistoryLimit; limit != nil && *limit == 0 {
		s.find(NoHistory, Medium, s.everywhere(), "revisionHistoryLimit is 0")
	}
}

// judgeBudget is about how many nodes an update takes at once.
func (s *subject) judgeBudget() {
	field, amount := "maxUnavailable", s.spec.MaxUnavailable
	if s.spec.Surges() {
		field, amount = "maxSurge", s.spec.MaxSurge
	}
	many := amount.Of(s.desired)
	switch {
	case amount.Percent && amount.Value >= 100, s.known && s.desired > 1 && many >= s.desired:
		s.find(UpdateAllAtOnce, High, s.everywhere(), "%s is %s: an update takes every node at once", field, words(amount))
	case s.spec.Surges():
		// The pods that work stay until others do.
	case !s.known && amount.Percent && amount.Value >= 50, s.known && s.desired >= fewNodes && 2*many >= s.desired:
		s.find(UpdateManyAtOnce, Medium, s.on(many), "%s is %s: an update takes at least half of the nodes at once", field, words(amount))
	}
}

// fewNodes is how many nodes there must be for a half of them to be many.
const fewNodes = 4

func words(a plan.Amount) string {
	if a.Percent {
		return fmt.Sprintf("%d%%", a.Value)
	}
	return fmt.Sprint(a.Value)
}

// judgeProof is about what a new pod has to show before the update goes on.
func (s *subject) judgeProof() {
	switch soaks, proves := s.ds.Spec.MinReadySeconds > 0, s.proves(); {
	case !proves && !s.rolls():
		s.find(NoReadinessProbe, Low, s.everywhere(), "no container has a readiness probe: a pod that runs counts as ready")
	case !proves && !soaks:
		s.find(NoReadinessProbe, High, s.everywhere(), "no container has a readiness probe and minReadySeconds is 0: a pod that starts and does nothing counts as good")
	case !proves:
		s.find(NoReadinessProbe, Medium, s.everywhere(), "no container has a readiness probe: a pod that runs for minReadySeconds (%d) counts as good, whatever it does", s.ds.Spec.MinReadySeconds)
	case !soaks && s.rolls():
		s.find(NoMinReadySeconds, Low, s.everywhere(), "minReadySeconds is 0")
	}
}

// proves says that something other than that its containers run decides whether
// the pod is ready: a probe of one of them, or a readiness gate. A startup probe is
// one, since before it succeeds the container is not ready.
func (s *subject) proves() bool {
	probes := func(c *corev1.Container) bool { return c.ReadinessProbe != nil || c.StartupProbe != nil }
	return len(s.pod.ReadinessGates) > 0 || slices.ContainsFunc(s.lasting(), probes)
}

// lasting is the containers that run as long as the pod does.
func (s *subject) lasting() (containers []*corev1.Container) {
	for i := range s.pod.Containers {
		containers = append(containers, &s.pod.Containers[i])
	}
	for i := range s.pod.InitContainers {
		c := &s.pod.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	return containers
}

// all is every container of the template.
func (s *subject) all() (containers []*corev1.Container) {
	for _, some := range [][]corev1.Container{s.pod.Containers, s.pod.InitContainers} {
		for i := range some {
			containers = append(containers, &some[i])
		}
	}
	return containers
}
