package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/deploy/policies"
)

// What a server does about pods with hostPath volumes.
const (
	HostPathsOff      = "off"
	HostPathsWarn     = "warn"
	HostPathsReadOnly = "readonly"
)

const (
	hostPathsName = "everynode-host-paths"
	// servedLabel marks what a server has installed because of its settings, and removes
	// again when they say so. What somebody else has installed lacks this label.
	servedLabel = "everynode.io/installed-by"
	servedValue = "server"
)

// HostPathPolicies are the values of Config.HostPathPolicy.
func HostPathPolicies() []string { return []string{HostPathsWarn, HostPathsReadOnly, HostPathsOff} }

// CheckHostPathPolicy refuses a policy that is neither empty nor one of HostPathPolicies.
// The empty one leaves the cluster as it is.
func CheckHostPathPolicy(policy string) error {
	if policy != "" && !slices.Contains(HostPathPolicies(), policy) {
		return fmt.Errorf("%q is not a policy for host paths: give one of %s", policy, strings.Join(HostPathPolicies(), ", "))
	}
	return nil
}

// hostPathPolicy is what a server does about hostPath volumes; empty: nothing.
type hostPathPolicy string

// objects returns the policy and its binding.
func (p hostPathPolicy) objects() ([]*unstructured.Unstructured, error) {
	var manifests [][]byte
	switch p {
	case HostPathsWarn:
		manifests = [][]byte{policies.HostPaths, policies.HostPathsWarn}
	case HostPathsReadOnly:
		manifests = [][]byte{policies.HostPaths, policies.HostPathsReadOnly}
	}
	var objects []*unstructured.Unstructured
	for _, manifest := range manifests {
		decoded, err := decodeManifest(manifest)
		if err != nil {
			return nil, err
		}
		for _, object := range decoded {
			object.SetLabels(map[string]string{servedLabel: servedValue})
		}
		objects = append(objects, decoded...)
	}
	return objects, nil
}

// remove deletes what a server installed when it had another
// setting: first the binding, so that the policy never applies to more than before.
func (p hostPathPolicy) remove(ctx context.Context, cfg *rest.Config) error {
	if p != HostPathsOff {
		return nil
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client for the policy of host paths: %w", err)
	}
	ours := metav1.ListOptions{LabelSelector: servedLabel + "=" + servedValue, FieldSelector: "metadata.name=" + hostPathsName}
	admission := client.AdmissionregistrationV1()
	err = admission.ValidatingAdmissionPolicyBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, ours)
	if err == nil {
		err = admission.ValidatingAdmissionPolicies().DeleteCollection(ctx, metav1.DeleteOptions{}, ours)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the policy of host paths: %w", err)
	}
	return nil
}
