package compat

import (
	"bytes"
	"os"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/view"
)

// TestRolloutOperator: people on call decide how a release goes on. They cannot change pods, DaemonSets, policies, or
// what the engine has written.
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
	typed, err := kubernetes.NewForConfig(config)
	d.do(err)
	rollouts, policies := client.Resource(rolloutsResource).Namespace(namespace), client.Resource(policiesResource)
	ctx, patch := t.Context(), []byte(`{"spec": {"paused": true}}`)
	d.until("the role counts", func() bool {
		_, err := rollouts.Patch(ctx, "agent", types.MergePatchType, patch, metav1.PatchOptions{})
		return err == nil
	})
	_, err = policies.List(ctx, metav1.ListOptions{})
	d.do(err)
	_, err = typed.AppsV1().DaemonSets(namespace).Get(ctx, "agent", metav1.GetOptions{})
	d.do(err)
	_, statusErr := rollouts.Patch(ctx, "agent", types.MergePatchType, []byte(`{"status": {"phase": "Idle"}}`), metav1.PatchOptions{}, "status")
	_, policyErr := policies.Patch(ctx, "any", types.MergePatchType, patch, metav1.PatchOptions{})
	_, setErr := client.Resource(setsResource).Namespace(namespace).Patch(ctx, "agent", types.MergePatchType, []byte(`{"metadata": {"labels": {"a": "b"}}}`), metav1.PatchOptions{})
	_, podsErr := typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	for what, err := range map[string]error{
		"the status": statusErr, "a policy": policyErr, "a DaemonSet": setErr, "pods": podsErr,
		"to delete a pod": typed.CoreV1().Pods(namespace).Delete(ctx, "any", metav1.DeleteOptions{}), "to delete it": rollouts.Delete(ctx, "agent", metav1.DeleteOptions{}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
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
