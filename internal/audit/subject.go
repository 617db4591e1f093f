package audit

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// subject is one DaemonSet and what is known about it.
type subject struct {
	ds   *appsv1.DaemonSet
	in   *Input
	spec plan.Spec
	pod  *corev1.PodSpec // of the template, with defaults
	pods []*Pod

	nodes []node  // all; empty if they are not known
	runs  []*node // those that should run a pod
	// desired is how many nodes should run a pod, if that is known.
	desired int
	known   bool
	guard   guard
}

// judgement is what is wrong with a subject.
type judgement struct {
	*subject
	findings []Finding
}

// node is what Audit needs of a node.
type node struct {
	plan.Node
	down bool // its kubelet has reported that it is not Ready, or has fallen silent
}

func newNode(n *corev1.Node) node {
	out := node{Node: view.Node(n)}
	for i := range n.Status.Conditions {
		out.down = out.down || n.Status.Conditions[i].Type == corev1.NodeReady && !out.Ready
	}
	return out
}

func newSubject(ds *appsv1.DaemonSet, in *Input, nodes []node, pods []*Pod) *subject {
	s := &subject{ds: ds, in: in, spec: view.Spec(ds, ""), pod: &view.Template(ds).Spec, pods: pods, nodes: nodes, known: true}
	for i := range nodes {
		if s.spec.Placement.Admits(&nodes[i].Node).Run {
			s.runs = append(s.runs, &nodes[i])
		}
	}
	switch {
	case in.Nodes != nil:
		s.desired = len(s.runs)
	case ds.Status.ObservedGeneration > 0:
		s.desired = int(ds.Status.DesiredNumberScheduled)
	default:
		s.known = false
	}
	if s.guard = in.guardOf(s); s.guard.policy != nil {
		s.spec.Strategy = plan.RollingUpdate // the policy says when pods of OnDelete go
	}
	return s
}

// judge looks for everything that may be wrong. About a DaemonSet that
// controllers leave alone there is nothing else to find.
func (j *judgement) judge() {
	if j.spec.Halt != plan.NoReason {
		detail := j.spec.HaltDetail
		if detail == "" {
			detail = "its selector is empty, so it selects every pod of the namespace"
		}
		j.find(InvalidSpec, High, j.everywhere(), "controllers leave it alone: %s", detail)
		return
	}
	j.judgeUpdate()
	j.judgeStatus()
	j.judgePlacement()
	j.judgeGuard()
	j.judgeConfig()
	j.judgeImages()
	j.judgeHost()
	j.judgeStanding()
}

// find records a finding.
func (j *judgement) find(r Reason, severity Severity, cost *Cost, format string, args ...any) {
	j.findings = append(j.findings, Finding{
		Severity: severity, Namespace: j.namespace(), DaemonSet: j.ds.Name, Reason: r, Cost: cost,
		Text: fmt.Sprintf(format, args...), Why: r.Sentence(), Change: r.Remedy(),
	})
}

// try adds a command that shows more to the last finding.
func (j *judgement) try(format string, args ...any) {
	last := &j.findings[len(j.findings)-1]
	last.Commands = append(last.Commands, fmt.Sprintf(format, args...))
}

// namespace is the DaemonSet's namespace: a manifest need not name it.
func (s *subject) namespace() string { return namespaceOf(s.ds.Namespace) }

func namespaceOf(given string) string {
	if given == "" {
		return metav1.NamespaceDefault
	}
	return given
}

// everywhere is the cost of what affects all nodes that should run a pod.
func (s *subject) everywhere() *Cost { return s.on(s.desired) }

// on is the cost of what affects n of the nodes that should run a pod.
func (s *subject) on(n int) *Cost {
	if !s.known {
		return nil
	}
	return &Cost{Nodes: n, Of: max(n, s.desired)}
}

// besides is the cost of what affects n nodes that should not run a pod.
func (s *subject) besides(n int) *Cost {
	if !s.known {
		return nil
	}
	return &Cost{Nodes: n, Of: n + s.desired}
}

// rolls reports whether an update replaces pods by itself.
func (s *subject) rolls() bool { return s.spec.Strategy == plan.RollingUpdate }

// counted returns a number of things: "1 node", "3 nodes".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
