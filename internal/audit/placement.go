package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
)

// judgePlacement is about which nodes run a pod, and what that depends on.
func (j *judgement) judgePlacement() {
	for _, key := range j.keys() {
		j.judgeLabel(key)
	}
	if j.in.Nodes != nil {
		j.judgeNodes()
	}
	if n := int(j.ds.Status.NumberMisscheduled); n > 0 {
		j.find(Misscheduled, Low, j.besides(n), "%s on nodes where the template lets no pod start", are(n, "pod"))
		j.try("everynode why daemonset/%s -n %s --reason TaintKeepsPod", j.ds.Name, j.namespace())
	}
}

// keys returns the node labels that the placement requires, sorted. It leaves out those that each kubelet sets on its
// own node and restores.
func (s *subject) keys() []string {
	keys := map[string]bool{}
	for key := range s.spec.Placement.Selector {
		keys[key] = true
	}
	for _, t := range s.spec.Placement.Terms {
		for i := range t.Labels {
			if wants(&t.Labels[i]) {
				keys[t.Labels[i].Key] = true
			}
		}
	}
	maps.DeleteFunc(keys, func(key string, _ bool) bool { return setByKubelet(key) })
	return slices.Sorted(maps.Keys(keys))
}

// wants reports whether the requirement fails on nodes without the label.
func wants(r *plan.Requirement) bool {
	return r.Operator == plan.In || r.Operator == plan.Exists || r.Operator == plan.Gt || r.Operator == plan.Lt
}

// setByKubelet reports whether the kubelet sets the label on its node when it starts (updateDefaultLabels in
// pkg/kubelet/kubelet_node_status.go).
func setByKubelet(key string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceTypeStable, corev1.LabelInstanceType, corev1.LabelOSStable, corev1.LabelArchStable, corev1.LabelWindowsBuild,
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return true
	}
	return false
}

// judgeLabel is about the pods that go when the label is removed from all nodes. Pods that a guard would hold do not
// count.
func (j *judgement) judgeLabel(key string) {
	switch {
	case j.in.Nodes == nil && j.needs(key) && !j.guarded(j.desired):
		j.find(HangsOnLabel, Medium, j.everywhere(), "it runs only where nodes have the label %s", key)
	case j.in.Nodes != nil && j.desired > 0:
		lost := j.lostWithout(key)
		if 2*lost <= j.desired || j.guarded(lost) {
			return
		}
		severity := Medium
		if lost == 1 {
			severity = Low
		}
		j.find(HangsOnLabel, severity, j.on(lost), "%s of it only by the label %s", have(lost), key)
	default:
		return
	}
	j.try("kubectl get nodes -L %s", key)
}

// have returns "3 nodes have a pod".
func have(nodes int) string {
	if nodes == 1 {
		return "1 node has a pod"
	}
	return fmt.Sprintf("%d nodes have a pod", nodes)
}

// needs reports whether no node without the label matches, as far as the manifest shows.
func (s *subject) needs(key string) bool {
	p := &s.spec.Placement
	if _, selects := p.Selector[key]; selects {
		return true
	}
	return p.Terms != nil && !slices.ContainsFunc(p.Terms, func(t plan.Term) bool {
		return !slices.ContainsFunc(t.Labels, func(r plan.Requirement) bool { return r.Key == key && wants(&r) })
	})
}

// lostWithout is how many nodes would lose their pod without the label.
func (s *subject) lostWithout(key string) (lost int) {
	for _, n := range s.runs {
		without := n.Node
		without.Labels = maps.Clone(n.Labels)
		delete(without.Labels, key)
		if !s.spec.Placement.Admits(&without).Keep {
			lost++
		}
	}
	return lost
}

// judgeNodes is about nodes that are left out.
func (j *judgement) judgeNodes() {
	taints, others := map[string]int{}, map[string]int{}
	for i := range j.nodes {
		e := j.spec.Placement.Admits(&j.nodes[i].Node)
		switch e.Reason {
		case plan.NoReason:
		case plan.TaintNotTolerated, plan.TaintEvicts:
			if !passes(e.Detail) {
				taints[e.Detail]++
			}
		default:
			others[strings.TrimSpace(e.Reason.String()+" "+e.Detail)]++
		}
	}
	switch {
	case j.desired > 0 && len(taints) > 0:
		text, n := listed(taints)
		j.find(TaintsKeepOff, Low, j.besides(n), "%s taints that it does not tolerate: %s", has(n), text)
		j.try("everynode why daemonset/%s -n %s --reason TaintNotTolerated,TaintEvicts", j.ds.Name, j.namespace())
	case j.desired == 0 && len(j.nodes) > 0:
		j.matchesNone(taints, others)
	}
}

// has returns "3 nodes have".
func has(nodes int) string {
	if nodes == 1 {
		return "1 node has"
	}
	return fmt.Sprintf("%d nodes have", nodes)
}

// matchesNone explains why no node matches. If the DaemonSet is only for another operating system or processor, that
// is taken to be intended, and the finding is Low.
func (j *judgement) matchesNone(taints, others map[string]int) {
	maps.Copy(others, taints)
	if len(others) == 0 {
		return // only nodes that are new or about to go
	}
	text, _ := listed(others)
	severity := Medium
	if j.forOtherMachines(others) {
		severity = Low
	}
	j.find(MatchesNoNode, severity, j.everywhere(), "none of %s matches it: %s", counted(len(j.nodes), "node"), text)
	j.try("kubectl get nodes --show-labels")
}

// forOtherMachines reports whether all of the reasons are labels that kubelets set.
func (s *subject) forOtherMachines(reasons map[string]int) bool {
	for reason := range reasons {
		label, selected := strings.CutPrefix(reason, plan.NotSelected.String()+" ")
		key, _, _ := strings.Cut(label, "=")
		if !selected || !setByKubelet(key) {
			return false
		}
	}
	return true
}

// passes reports whether the taint marks a node that is new, about to go or to be replaced, so that it is all right
// for a pod not to tolerate it.
func passes(taint string) bool {
	for _, key := range []string{
		"node.cloudprovider.kubernetes.io/uninitialized", "node.cloudprovider.kubernetes.io/shutdown", corev1.TaintNodeOutOfService,
		corev1.TaintNodeNetworkUnavailable, "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted",
	} {
		if rest, is := strings.CutPrefix(taint, key); is && (strings.HasPrefix(rest, "=") || strings.HasPrefix(rest, ":")) {
			return true
		}
	}
	return false
}

// listed returns "a (3 nodes), b (1 node)", the most frequent first, and the sum of the counts.
func listed(counts map[string]int) (text string, sum int) {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		sum += counts[name]
		if i < maxListed {
			names[i] = fmt.Sprintf("%s (%s)", name, counted(counts[name], "node"))
		}
	}
	if more := len(names) - maxListed; more > 0 {
		names = append(names[:maxListed], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", "), sum
}

// maxListed is how many things a sentence names.
const maxListed = 3
