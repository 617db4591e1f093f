package compat

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
)

// picture is what a controller leaves behind once it is at rest: everything that must be
// the same with both. It does not have the names and UIDs of pods.
type picture struct {
	// Pods is, for each node, its pods: revision hash, template generation, image, and
	// anything unusual.
	Pods map[string][]string
	// Status is the whole status. Neither controller writes a condition of a DaemonSet
	// without a policy (R17).
	Status    appsv1.DaemonSetStatus
	Revisions []appsv1.ControllerRevision

	keepOnly map[string]bool // nodes that may keep a pod, but not start one
}

func (l *lab) picture() picture {
	l.t.Helper()
	ds := l.set()
	p := picture{Pods: map[string][]string{}, Status: ds.Status, keepOnly: map[string]bool{}}
	for _, pod := range l.pods() {
		p.Pods[target(&pod)] = append(p.Pods[target(&pod)], describe(&pod))
	}
	for _, pods := range p.Pods {
		slices.Sort(pods)
	}
	for _, n := range l.nodes() {
		run, keep := daemon.NodeShouldRunDaemonPod(klog.Background(), &n, ds)
		p.keepOnly[n.Name] = keep && !run
	}
	for _, r := range l.revisions() {
		// Byte for byte, except for what the server fills in and the owner's UID.
		for i := range r.OwnerReferences {
			r.OwnerReferences[i].UID = ""
		}
		p.Revisions = append(p.Revisions, r)
	}
	return p
}

func describe(pod *corev1.Pod) string {
	s := fmt.Sprintf("%s/%s %s %s", pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], pod.Labels["pod-template-generation"],
		pod.Spec.Containers[0].Image, pod.Status.Phase)
	if !isReady(pod) {
		s += " not ready"
	}
	if pod.DeletionTimestamp != nil {
		s += " terminating"
	}
	if pod.Spec.NodeName == "" {
		s += " not bound"
	}
	if metav1.GetControllerOf(pod) == nil {
		s += " orphan"
	}
	return s
}

// difference describes how our picture differs from upstream's, except for the
// documented differences. loose means that an update was stuck before: "Order of an
// update".
func difference(up, our picture, loose bool) string {
	up, our = up.clone(), our.clone()
	// "A taint keeps what runs": upstream's rollout deletes a pod on a node that may
	// keep it but not start one. Ours leaves it, and its revision, so one more pod is
	// misscheduled.
	for node, only := range our.keepOnly {
		if pods := our.Pods[node]; only && len(pods) == 1 && len(up.Pods[node]) == 0 {
			delete(our.Pods, node)
			our.Status.NumberMisscheduled--
			our.Revisions = slices.DeleteFunc(our.Revisions, func(r appsv1.ControllerRevision) bool {
				return strings.HasPrefix(pods[0], r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]+"/") && !up.has(r.Name)
			})
		}
	}
	// "Order of an update": which nodes an update reaches first is random with upstream,
	// and so is the template generation of their pods after it was taken back. How many
	// it has reached must be the same.
	if loose {
		up.Pods, our.Pods = tallyPods(up.Pods), tallyPods(our.Pods)
	}
	return cmp.Diff(up, our, cmp.Options{
		cmpopts.IgnoreFields(metav1.ObjectMeta{}, "UID", "ResourceVersion", "CreationTimestamp", "ManagedFields"),
		cmpopts.IgnoreUnexported(picture{}),
	})
}

func (p picture) clone() picture {
	p.Pods, p.Revisions = maps.Clone(p.Pods), slices.Clone(p.Revisions)
	return p
}

func (p picture) has(revision string) bool {
	return slices.ContainsFunc(p.Revisions, func(r appsv1.ControllerRevision) bool { return r.Name == revision })
}

// generation is the template generation in the description of a pod.
var generation = regexp.MustCompile(`/\d+ `)

// tallyPods drops which node has which pods, and the pods that were released: those stay
// where they are.
func tallyPods(pods map[string][]string) map[string][]string {
	var all []string
	for _, on := range pods {
		on = slices.DeleteFunc(slices.Clone(on), func(pod string) bool { return strings.HasSuffix(pod, " orphan") })
		if len(on) > 0 {
			all = append(all, generation.ReplaceAllString(strings.Join(on, " + "), "/* "))
		}
	}
	slices.Sort(all)
	return map[string][]string{"all nodes": all}
}
