package engine

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/view"
)

// installKinds gives the server the kinds of policies and of the objects that keep releases.
func (f *fakeAPI) installKinds() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range []string{view.PolicyResource, view.RolloutResource} {
		if f.objects[r] == nil {
			f.objects[r] = map[string]runtime.Object{}
		}
	}
}

// lacks reports whether the server does not have the kind.
func (f *fakeAPI) lacks(resource string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return kindOf(resource) != "" && f.objects[resource] == nil
}

// kindOf returns the kind of a resource that the scheme does not know; empty for others.
func kindOf(resource string) string {
	return map[string]string{view.PolicyResource: view.PolicyKind, view.RolloutResource: view.RolloutKind}[resource]
}

func newOfKind(kind string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(view.PolicyVersion, kind))
	return u
}

func listOfKind(kind string, items []runtime.Object) runtime.Object {
	l := &unstructured.UnstructuredList{Object: map[string]any{}}
	l.SetGroupVersionKind(schema.FromAPIVersionAndKind(view.PolicyVersion, kind+"List"))
	for _, o := range items {
		l.Items = append(l.Items, *o.(*unstructured.Unstructured).DeepCopy())
	}
	return l
}

// decodeOfKind decodes an object that the scheme does not know; nil for others.
func decodeOfKind(body []byte) *unstructured.Unstructured {
	var u unstructured.Unstructured
	if json.Unmarshal(body, &u.Object) != nil || u.GetAPIVersion() != view.PolicyVersion {
		return nil
	}
	return &u
}

// updateOfKind copies the part that a write does not change from the old object: the status, or everything
// but the status.
func updateOfKind(old, sent *unstructured.Unstructured, sub string) *unstructured.Unstructured {
	next := old.DeepCopy()
	if sub == "status" {
		next.Object["status"] = sent.Object["status"]
		return next
	}
	next.Object["spec"] = sent.Object["spec"]
	if !reflect.DeepEqual(old.Object["spec"], sent.Object["spec"]) {
		next.SetGeneration(old.GetGeneration() + 1)
	}
	return next
}

// addKind adds an object that is given as JSON.
func (c *cluster) addKind(resource, text string) {
	c.t.Helper()
	u := decodeOfKind([]byte(text))
	if u == nil {
		c.t.Fatalf("cannot read %s", text)
	}
	u.SetGeneration(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fakeAPI.add(resource, u)
}

// ask changes the spec of the DaemonSet's DaemonSetRollout.
func (c *cluster) ask(spec string) {
	c.t.Helper()
	var want map[string]any
	if err := json.Unmarshal([]byte(spec), &want); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.objects[view.RolloutResource]["default/agent"]
	if old == nil {
		c.t.Fatal("there is no DaemonSetRollout")
	}
	sent := old.(*unstructured.Unstructured).DeepCopy()
	sent.Object["spec"] = want
	c.store(view.RolloutResource, "MODIFIED", updateOfKind(old.(*unstructured.Unstructured), sent, ""))
}

// rollout returns the DaemonSet's DaemonSetRollout.
func (c *cluster) rollout() *view.DaemonSetRollout {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &view.DaemonSetRollout{}
	if u, ok := c.objects[view.RolloutResource]["default/agent"].(*unstructured.Unstructured); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
			c.t.Fatal(err)
		}
	}
	return o
}

// stands returns the state of the release, in a line.
func (c *cluster) stands() string {
	c.t.Helper()
	s := c.rollout().Status
	wave := ""
	if s.Wave != nil {
		wave = s.Wave.Name
	}
	return fmt.Sprintf("%s %s %s %d", s.Phase, s.Reason, wave, s.Nodes.Exposed)
}
