package testbed

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"everynode/deploy"
	"everynode/internal/view"
)

// InstallReleases creates the kinds of releases in waves, and a RolloutPolicy of that name and
// spec.
func InstallReleases(ctx context.Context, client dynamic.Interface, name string, spec map[string]any) error {
	kinds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, text := range [][]byte{deploy.RolloutPolicies, deploy.DaemonSetRollouts} {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			return fmt.Errorf("read a kind: %w", err)
		}
		if _, err := kinds.Create(ctx, o, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("make the kind %s: %w", o.GetName(), err)
		}
	}
	policy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": view.PolicyVersion, "kind": view.PolicyKind, "metadata": map[string]any{"name": name}, "spec": spec}}
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, last = client.Resource(view.ReleaseResource(view.PolicyResource)).Create(ctx, policy, metav1.CreateOptions{})
		return last == nil, nil // the API server may not serve the kind yet
	})
	if err != nil {
		return fmt.Errorf("make the policy: %w (%v)", err, last)
	}
	return nil
}
