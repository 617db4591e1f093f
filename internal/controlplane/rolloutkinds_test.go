package controlplane

import (
	"context"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// checkRolloutKinds: a server has the kinds of releases in waves, and whoever may view a namespace can read them.
func checkRolloutKinds(t *testing.T, r *running) {
	client, err := dynamic.NewForConfig(r.adminConfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"rolloutpolicies", "daemonsetrollouts"} {
		kind := client.Resource(schema.GroupVersionResource{Group: "everynode.io", Version: "v1alpha1", Resource: resource})
		eventually(t, resource+" are served", func(ctx context.Context) (bool, error) {
			_, err := kind.List(ctx, metav1.ListOptions{})
			return err == nil, nil
		})
	}
	mentions := func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "daemonsetrollouts") }
	eventually(t, "view is told of them", func(ctx context.Context) (bool, error) {
		view, err := r.admin.RbacV1().ClusterRoles().Get(ctx, "view", metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(view.Rules, mentions), err
	})
	edit, err := r.admin.RbacV1().ClusterRoles().Get(t.Context(), "edit", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range edit.Rules {
		if mentions(rule) && slices.Contains(rule.Verbs, "patch") {
			t.Errorf("who applies DaemonSets may approve their releases: %v", rule)
		}
	}
}
