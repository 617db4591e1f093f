package lookout

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"everynode/internal/view"
)

// sources returns the resources that are followed, one watch for each.
func (f *Fleet) sources() []*source {
	c, apps := f.client.CoreV1(), f.client.AppsV1()
	sources := []*source{
		{of: f.feed, name: "daemonsets", example: &appsv1.DaemonSet{},
			list: lister(apps.DaemonSets(f.namespace).List), watch: apps.DaemonSets(f.namespace).Watch,
			trim: trimmed(trimSet), keep: f.known.keepSet, forget: f.known.forgetSet, replace: f.known.replaceSets},
		{of: f.feed, name: "controllerrevisions", example: &appsv1.ControllerRevision{},
			list: lister(apps.ControllerRevisions(f.namespace).List), watch: apps.ControllerRevisions(f.namespace).Watch,
			trim: trimmed(trimRevision), keep: f.known.keepRevision, forget: f.known.forgetRevision, replace: func() { emptied(f.known.revisions); f.known.markAll() }},
		{of: f.feed, name: "nodes", example: &corev1.Node{},
			list: lister(c.Nodes().List), watch: c.Nodes().Watch,
			trim: trimmed(trimNode), keep: f.known.keepNode, forget: f.known.forgetNode, replace: func() { clear(f.known.nodes); f.known.moveAll() }},
		{of: f.feed, name: "pods", example: &corev1.Pod{},
			list: lister(c.Pods(f.namespace).List), watch: c.Pods(f.namespace).Watch,
			trim: trimmed(trimPod), keep: f.known.keepPod, forget: f.known.forgetPod, replace: func() { emptied(f.known.pods); f.known.markAll() }},
	}
	whole := func(o any) (any, error) { return o, nil }
	if f.kinds != nil {
		sources = append(sources, &source{of: f.feed, name: view.PolicyResource, example: &unstructured.Unstructured{},
			list: lister(f.kinds.List), watch: f.kinds.Watch, trim: whole,
			keep: f.known.keepPolicy, forget: f.known.forgetPolicy, replace: func() { clear(f.known.policies); f.known.markAll() }})
	}
	if f.rollouts != nil {
		sources = append(sources, &source{of: f.feed, name: view.RolloutResource, example: &unstructured.Unstructured{},
			list: lister(f.rollouts.List), watch: f.rollouts.Watch, trim: whole,
			keep: f.known.keepRollout, forget: f.known.forgetRollout, replace: f.known.replaceRollouts})
	}
	return sources
}
