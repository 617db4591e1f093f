package compat

import (
	"bytes"
	"context"
	"os"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"everynode/internal/view"
)

// TestRolloutOperator: people on call decide how a release goes on, and see what becomes of it. They cannot change pods,
// nodes, DaemonSets, policies, or what the engine has written.
func TestRolloutOperator(t *testing.T) {
	d := newRolloutKinds(t)
	d.create(agent())
	_, err := d.make(d.rollouts, view.RolloutKind, "agent", "{}")
	d.do(err)
	d.bindPeople("everynode-rollouts-operator", "oncall")
	config := rest.CopyConfig(d.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "oncall", Groups: []string{"system:authenticated"}}
	client, err := dynamic.NewForConfig(config)
	d.do(err)
	core := schema.GroupVersion{Version: "v1"}
	pods, nodes := client.Resource(core.WithResource("pods")).Namespace(namespace), client.Resource(core.WithResource("nodes"))
	events, sets := client.Resource(core.WithResource("events")).Namespace(namespace), client.Resource(setsResource).Namespace(namespace)
	revisions := client.Resource(setsResource.GroupVersion().WithResource("controllerrevisions")).Namespace(namespace)
	rollouts, policies := client.Resource(rolloutsResource).Namespace(namespace), client.Resource(policiesResource)
	ctx := t.Context()
	d.until("the role counts", func() bool {
		_, err := rollouts.Patch(ctx, "agent", types.MergePatchType, []byte(`{"spec": {"paused": true}}`), metav1.PatchOptions{})
		return err == nil
	})
	// What everynode rollout status, history and watch, fleet, why and watch read.
	for what, r := range map[string]dynamic.ResourceInterface{"pods": pods, "nodes": nodes, "events": events, "DaemonSets": sets,
		"revisions": revisions, "rollouts": rollouts, "policies": policies} {
		_, listed := r.List(ctx, metav1.ListOptions{})
		_, watched := r.Watch(ctx, metav1.ListOptions{})
		if _, got := r.Get(ctx, "any", metav1.GetOptions{}); listed != nil || watched != nil || !apierrors.IsNotFound(got) {
			t.Errorf("%s: list: %v, watch: %v, get: %v", what, listed, watched, got)
		}
		for verb, err := range changes(ctx, r) {
			if what == "rollouts" && verb == "patch" {
				d.do(err) // see above
			} else if !apierrors.IsForbidden(err) {
				t.Errorf("to %s %s: %v", verb, what, err)
			}
		}
	}
	for _, part := range []string{"attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "resize", "status"} {
		for verb, err := range changes(ctx, pods, part) {
			if !apierrors.IsForbidden(err) {
				t.Errorf("to %s pods/%s: %v", verb, part, err)
			}
		}
		if _, err := pods.Get(ctx, "agent", metav1.GetOptions{}, part); !apierrors.IsForbidden(err) {
			t.Errorf("to get pods/%s: %v", part, err)
		}
	}
	for verb, err := range changes(ctx, rollouts, "status") {
		if !apierrors.IsForbidden(err) {
			t.Errorf("to %s the status: %v", verb, err)
		}
	}
}

// changes tries every verb that changes an object called agent, or a part of it, and returns the answers by verb.
func changes(ctx context.Context, r dynamic.ResourceInterface, part ...string) map[string]error {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Any", "metadata": map[string]any{"name": "agent"}}}
	answers := map[string]error{"delete": r.Delete(ctx, "agent", metav1.DeleteOptions{}, part...)}
	_, answers["create"] = r.Create(ctx, o, metav1.CreateOptions{}, part...)
	_, answers["update"] = r.Update(ctx, o, metav1.UpdateOptions{}, part...)
	_, answers["patch"] = r.Patch(ctx, "agent", types.MergePatchType, []byte(`{"metadata": {"labels": {"a": "b"}}}`), metav1.PatchOptions{}, part...)
	if len(part) == 0 {
		answers["deletecollection"] = r.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	}
	return answers
}

// bindPeople binds a user to a role of deploy/rbac/people.yaml in the whole cluster.
func (d *rolloutKinds) bindPeople(name, user string) {
	d.t.Helper()
	text, err := os.ReadFile("../../deploy/rbac/people.yaml")
	d.do(err)
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var role rbacv1.ClusterRole
		if err := docs.Decode(&role); err != nil {
			d.t.Fatalf("no role %s: %v", name, err)
		}
		if role.Name != name {
			continue
		}
		_, err := d.client.RbacV1().ClusterRoles().Create(d.t.Context(), &role, metav1.CreateOptions{})
		d.do(err)
		_, err = d.client.RbacV1().ClusterRoleBindings().Create(d.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}, metav1.CreateOptions{})
		d.do(err)
		return
	}
}
