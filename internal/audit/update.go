package audit

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// judgeUpdate is about how the next update will go, according to the manifest.
func (j *judgement) judgeUpdate() {
	if j.rolls() {
		j.judgeBudget()
	}
	j.judgeProof()
	if j.spec.Surges() && view.AsksForPorts(j.pod) {
		j.find(SurgeWithHostPorts, Medium, j.everywhere(), "maxSurge is %s, and the pods use ports of their node", words(j.spec.MaxSurge))
	}
	if limit := j.ds.Spec.RevisionHistoryLimit; limit != nil && *limit == 0 {
		j.find(NoHistory, Medium, j.everywhere(), "revisionHistoryLimit is 0")
	}
}

// judgeBudget is about how many nodes an update takes down at once: too many, or so few that it takes hours. With a policy
// it goes by the policy's largest step, although only everynode's engine follows policies, and Audit does not see which
// controller there is.
func (j *judgement) judgeBudget() {
	field, amount := "maxUnavailable", j.spec.MaxUnavailable
	if j.spec.Surges() {
		field, amount = "maxSurge", j.spec.MaxSurge
	}
	if amount == (plan.Amount{}) {
		amount.Value = 1 // a file may leave it out
	}
	what, reach := "an update", largest{nodes: j.desired, share: 100}
	if p := j.guard.policy; p != nil {
		reach = j.largestStep(p)
		what = fmt.Sprintf("wave %s of RolloutPolicy %s", reach.wave, p.Name)
	}
	share, many := min(amount.Value, reach.share), min(amount.Of(j.desired), reach.nodes)
	half := !j.known && amount.Percent && share >= 50 || j.known && j.desired >= fewNodes && 2*many >= j.desired
	switch {
	case amount.Percent && share >= 100, j.known && j.desired > 1 && many >= j.desired:
		j.find(UpdateAllAtOnce, High, j.everywhere(), "%s is %s: %s takes every node at once", field, words(amount), what)
	case half && !j.spec.Surges(): // with a surge the working pods stay until others work
		j.find(UpdateManyAtOnce, Medium, j.on(many), "%s is %s: %s takes at least half of the nodes at once", field, words(amount), what)
	case j.known && j.updateTakes(many) >= longUpdate:
		j.find(UpdateTakesHours, Low, j.everywhere(), "%s is %s: an update takes about %.0f hours if a pod is ready after %ds (minReadySeconds is %d)",
			field, words(amount), float64(j.updateTakes(many))/3600, startSeconds, j.ds.Spec.MinReadySeconds)
	}
}

// largest is the most nodes that an update reaches in one step, and their share of all nodes in percent. wave is the name
// of the step.
type largest struct {
	wave         string
	nodes, share int
}

// largestStep returns the largest step of a policy.
func (s *subject) largestStep(p *rollout.Policy) (l largest) {
	steps, of := s.stepsOf(p)
	done := 0
	for _, step := range steps {
		if n := step.Quota - done; n > l.nodes {
			l = largest{p.Waves[step.Wave].Name, n, 100 * n / of}
		}
		done = step.Quota
	}
	return l
}

// stepsOf returns the steps of a policy, and on how many nodes: those that there are, or a hundred if that is not known.
func (s *subject) stepsOf(p *rollout.Policy) (steps []rollout.Step, of int) {
	if len(s.runs) > 0 {
		nodes := make([]rollout.Node, len(s.runs))
		for i, n := range s.runs {
			nodes[i] = rollout.Node{Name: n.Name, Labels: n.Labels, Down: n.down}
		}
		return rollout.NewLayout(p, string(s.ds.UID), nodes).Steps, len(nodes)
	}
	if of = s.desired; of == 0 {
		of = 100
	}
	done := 0
	for i := range p.Waves {
		w := &p.Waves[i]
		quota := min(max(w.Nodes.Of(of), 1), of)
		if s.desired == 0 && !w.Nodes.Percent {
			quota = 1 // of an unknown number of nodes
		}
		quota = max(quota, done)
		// How many nodes each value of a label has is not known either: such a wave does not count.
		for n := done + 1; w.OneAtATime != "" && n < quota; n++ {
			steps = append(steps, rollout.Step{Wave: i, Quota: n})
		}
		steps, done = append(steps, rollout.Step{Wave: i, Quota: quota}), quota
	}
	return steps, of
}

const (
	// longUpdate is how many seconds an update may take before it counts as long: half a working day.
	longUpdate = 4 * 3600
	// startSeconds is how long a pod is assumed to take until it is ready: Audit does not see the statuses of pods.
	startSeconds = 10
)

// updateTakes is how long an update of all nodes takes, many at a time, in seconds. (The longest times that a manifest
// can ask for do not fit into a time.Duration.)
func (s *subject) updateTakes(many int) int64 {
	many = max(many, 1)
	steps := int64((s.desired + many - 1) / many)
	return steps * (startSeconds + int64(s.ds.Spec.MinReadySeconds))
}

// fewNodes is how many nodes there must be at least for half of them to count as many.
const fewNodes = 4

func words(a plan.Amount) string {
	if a.Percent {
		return fmt.Sprintf("%d%%", a.Value)
	}
	return fmt.Sprint(a.Value)
}

// judgeProof is about what a new pod must prove before the update goes on.
func (j *judgement) judgeProof() {
	switch soaks, proves := j.ds.Spec.MinReadySeconds > 0, j.proves(); {
	case !proves && !j.rolls():
		j.find(NoReadinessProbe, Low, j.everywhere(), "no container has a readiness probe: a pod that runs counts as ready")
	case !proves && !soaks:
		j.find(NoReadinessProbe, High, j.everywhere(), "no container has a readiness probe and minReadySeconds is 0: a pod that starts and does nothing counts as good")
	case !proves:
		j.find(NoReadinessProbe, Medium, j.everywhere(), "no container has a readiness probe: a pod that runs for minReadySeconds (%d) counts as good, whatever it does", j.ds.Spec.MinReadySeconds)
	case !soaks && j.rolls():
		j.find(NoMinReadySeconds, Low, j.everywhere(), "minReadySeconds is 0")
	}
}

// proves reports whether a pod must do more than run to be ready: pass a probe of
// one of its containers, or a readiness gate. A startup probe counts, since the
// container is not ready before it succeeds.
func (s *subject) proves() bool {
	probes := func(c *corev1.Container) bool { return c.ReadinessProbe != nil || c.StartupProbe != nil }
	return len(s.pod.ReadinessGates) > 0 || slices.ContainsFunc(s.lasting(), probes)
}

// lasting returns the containers that run as long as the pod.
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

// all returns every container of the template.
func (s *subject) all() (containers []*corev1.Container) {
	for _, some := range [][]corev1.Container{s.pod.Containers, s.pod.InitContainers} {
		for i := range some {
			containers = append(containers, &some[i])
		}
	}
	return containers
}
