package compat

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// A kind that somebody has defined: daemonsets.example.com.
var (
	foreignSets = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "daemonsets"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// A CRD may define a DaemonSet of another group. The engine only asks for
// apps/v1: it leaves these objects and their pods alone, does not count them,
// and does its own work under the same name and labels.
func TestDaemonSetsOfAnotherGroup(t *testing.T) {
	l := newLab(t)
	c, err := dynamic.NewForConfig(l.config)
	l.do(err)
	l.defineForeign(c)
	foreign := l.foreignSet(c)
	l.addNodes("n1", "n2")
	l.foreignPod(foreign, "theirs-1", "n1")
	paths := &paths{}
	r := l.start(controller{"ours", func(ctx context.Context, t *testing.T, config *rest.Config) error {
		config.Wrap(paths.note)
		return runEngine(ctx, t, config)
	}})
	l.create(agent(rolling(1, 0)))
	l.until("both nodes have our pod beside theirs", func() bool { return l.counts() == "2/2/2/2/2/0" && len(l.pods()) == 3 })
	l.foreignPod(foreign, "theirs-2", "n2")
	l.edit(image("agent:2"))
	l.until("the update is done", func() bool {
		for _, images := range l.images() {
			if images != "agent:2+theirs" && images != "theirs+agent:2" {
				return false
			}
		}
		return l.counts() == "2/2/2/2/2/0"
	})
	l.do(l.client.AppsV1().DaemonSets(namespace).Delete(t.Context(), "agent", metav1.DeleteOptions{}))
	l.rest()
	r.stop()

	now, err := c.Resource(foreignSets).Namespace(namespace).Get(t.Context(), "agent", metav1.GetOptions{})
	l.do(err)
	if was, is := foreign.GetResourceVersion(), now.GetResourceVersion(); was != is {
		t.Errorf("their DaemonSet was changed: resourceVersion %s, and now %s: %v", was, is, now.Object)
	}
	for _, name := range []string{"theirs-1", "theirs-2"} {
		pod, err := l.client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		l.do(err)
		if pod.DeletionTimestamp != nil || metav1.GetControllerOf(pod).UID != foreign.GetUID() || pod.Labels["controller-revision-hash"] != "" {
			t.Errorf("their pod was touched: %v", pod.ObjectMeta)
		}
	}
	if other := paths.outside("/api/v1/", "/apis/apps/v1/", "/apis/node.k8s.io/v1/runtimeclasses", "/apis/everynode.io/v1alpha1/", "/version"); len(other) != 0 {
		t.Errorf("the engine asked for %q", other)
	}
}

// defineForeign creates the CRD, and removes it when the test ends.
func (l *lab) defineForeign(c dynamic.Interface) {
	l.t.Helper()
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "daemonsets.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Namespaced",
			"names": map[string]any{"plural": "daemonsets", "singular": "daemonset", "kind": "DaemonSet", "listKind": "DaemonSetList"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
		},
	}}
	_, err := c.Resource(definitions).Create(l.t.Context(), crd, metav1.CreateOptions{})
	l.do(err)
	l.t.Cleanup(func() {
		if err := c.Resource(definitions).Delete(context.WithoutCancel(l.t.Context()), crd.GetName(), metav1.DeleteOptions{}); err != nil {
			l.t.Error(err)
		}
	})
	l.until("the kind is served", func() bool {
		_, err := c.Resource(foreignSets).Namespace(namespace).List(l.t.Context(), metav1.ListOptions{})
		return err == nil
	})
}

// foreignSet creates an object with the name, the selector and the template of
// ours.
func (l *lab) foreignSet(c dynamic.Interface) *unstructured.Unstructured {
	l.t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(agent(rolling(1, 0), image("theirs")))
	l.do(err)
	set := &unstructured.Unstructured{Object: content}
	set.SetAPIVersion("example.com/v1")
	set.SetKind("DaemonSet")
	made, err := c.Resource(foreignSets).Namespace(namespace).Create(l.t.Context(), set, metav1.CreateOptions{})
	l.do(err)
	return made
}

// foreignPod creates a pod as their controller would.
func (l *lab) foreignPod(set *unstructured.Unstructured, name, node string) {
	l.t.Helper()
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "agent"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: set.GetAPIVersion(), Kind: set.GetKind(), Name: set.GetName(), UID: set.GetUID(), Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "agent", Image: "theirs"}}},
	}
	_, err := l.client.CoreV1().Pods(namespace).Create(l.t.Context(), pod, metav1.CreateOptions{})
	l.do(err)
}

// paths are the request paths.
type paths struct {
	mu   sync.Mutex
	seen []string
}

func (p *paths) note(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		p.mu.Lock()
		p.seen = append(p.seen, req.URL.Path)
		p.mu.Unlock()
		return next.RoundTrip(req)
	})
}

// outside returns the paths that begin with none of the prefixes.
func (p *paths) outside(prefixes ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.seen), func(path string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
	})
}
