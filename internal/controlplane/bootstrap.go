package controlplane

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"everynode/deploy"
	"everynode/internal/controlplane/pki"
)

const (
	fieldManager  = "everynode"
	bootstrapTime = 30 * time.Second
)

//go:embed bootstrap.yaml
var bootstrapManifest []byte

//go:embed simulator.yaml
var simulatorManifest []byte

// bootstrap is what a server writes into its cluster at its start.
type bootstrap struct {
	settings *settings
	client   *rest.Config
}

// apply applies the objects of bootstrap.yaml, the kinds of releases in waves and cluster-info. It does not
// write objects that already say the same. It retries for a while what fails, because the API server
// creates its namespaces in the background.
func (b bootstrap) apply(ctx context.Context) error {
	manifests := [][]byte{bootstrapManifest, deploy.RolloutPolicies, deploy.DaemonSetRollouts, deploy.RolloutPeople}
	objects, err := decodeManifest(bytes.Join(manifests, []byte("\n---\n")))
	if err != nil {
		return err
	}
	policies, err := b.admissionPolicies()
	if err != nil {
		return err
	}
	network, err := b.networkInfo()
	if err != nil {
		return err
	}
	authorities, err := b.authoritiesToApply(ctx)
	if err != nil {
		return err
	}
	policy := hostPathPolicy(b.settings.HostPathPolicy)
	hostPaths, err := policy.objects()
	if err != nil {
		return err
	}
	objects = slices.Concat(policies, hostPaths, authorities, []*unstructured.Unstructured{network}, objects)
	info, err := b.clusterInfo()
	if err != nil {
		return err
	}
	simulator, err := decodeManifest(simulatorManifest)
	if err != nil {
		return err
	}
	if b.settings.Simulator {
		objects, simulator = append(objects, simulator...), nil
	}
	client, err := dynamic.NewForConfig(b.client)
	if err != nil {
		return fmt.Errorf("make a client for the bootstrap objects: %w", err)
	}
	keep, err := b.keepClusterInfo(ctx)
	if err != nil {
		return err
	}
	group, applying := errgroup.WithContext(ctx)
	group.SetLimit(policyAtOnce)
	for _, object := range objects {
		group.Go(func() error { return applyObject(applying, client, object) })
	}
	for _, object := range simulator {
		group.Go(func() error { return deleteObject(applying, client, object) })
	}
	group.Go(func() error { return deleteFormer(applying, b.client) })
	group.Go(func() error { return policy.remove(applying, b.client) })
	if err := group.Wait(); err != nil || keep {
		return err
	}
	return applyObject(ctx, client, info) // last, because machines that join wait for it
}

// deleteFormer deletes an object that earlier releases applied, and that would undo
// what this one decides: with it, Kubernetes' own approver lets the holder of a token
// become any node.
func deleteFormer(ctx context.Context, cfg *rest.Config) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client for former bootstrap objects: %w", err)
	}
	const former = "everynode:agents-approve-node-client-csrs"
	err = client.RbacV1().ClusterRoleBindings().Delete(ctx, former, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the ClusterRoleBinding %s: %w", former, err)
	}
	return nil
}

// keepClusterInfo reports whether the existing cluster-info can stay. With several
// servers it names the first one. If each server wrote its own address, that would
// invalidate the signatures, and with them the token of a machine that is just joining.
// If cluster-info is from another step of a rotation, the servers that follow the
// rotation correct it.
func (b bootstrap) keepClusterInfo(ctx context.Context) (bool, error) {
	if b.settings.embeddedStore {
		return false, nil
	}
	client, err := kubernetes.NewForConfig(b.client)
	if err != nil {
		return false, fmt.Errorf("make a client for cluster-info: %w", err)
	}
	info, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, bootstrapapi.ConfigMapClusterInfo, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cluster-info: %w", err)
	}
	theirs, err := authorityIn(info)
	if err != nil {
		return false, nil // nobody can use it, so it is replaced
	}
	ours, err := os.ReadFile(b.settings.path("pki", pki.ClusterAuthorities))
	if err != nil {
		return false, fmt.Errorf("read the cluster's authorities: %w", err)
	}
	return shareCertificate(theirs, ours), nil
}

// authoritiesToApply returns the ConfigMap that names the cluster's authorities; nothing if the
// existing one can stay. The servers that follow a rotation write it. A server that starts may be
// a step behind, and nodes never trust again a CA that they were once told to drop.
func (b bootstrap) authoritiesToApply(ctx context.Context) ([]*unstructured.Unstructured, error) {
	client, err := kubernetes.NewForConfig(b.client)
	if err != nil {
		return nil, fmt.Errorf("make a client for the cluster's authorities: %w", err)
	}
	ours, err := os.ReadFile(b.settings.path("pki", pki.ClusterAuthorities))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's authorities: %w", err)
	}
	named, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, authoritiesMap, metav1.GetOptions{})
	switch {
	case err == nil && shareCertificate([]byte(named.Data["ca.crt"]), ours):
		return nil, nil
	case err != nil && !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("read %s: %w", authoritiesMap, err)
	}
	object, err := publicConfigMap(authoritiesMap, map[string]string{"ca.crt": string(ours)})
	if err != nil {
		return nil, err
	}
	return []*unstructured.Unstructured{object}, nil
}

// authorityIn returns the CA (PEM) that a cluster-info names.
func authorityIn(info *corev1.ConfigMap) ([]byte, error) {
	kubeconfig, err := clientcmd.Load([]byte(info.Data[bootstrapapi.KubeConfigKey]))
	if err != nil {
		return nil, fmt.Errorf("read cluster-info: %w", err)
	}
	for _, cluster := range kubeconfig.Clusters {
		return cluster.CertificateAuthorityData, nil
	}
	return nil, errors.New("cluster-info names no cluster")
}

// authorityInStore is authorityIn for a cluster-info as it is stored in etcd.
func authorityInStore(data []byte) ([]byte, error) {
	object, err := runtime.Decode(scheme.Codecs.UniversalDeserializer(), data)
	if err != nil {
		return nil, fmt.Errorf("decode cluster-info: %w", err)
	}
	info, ok := object.(*corev1.ConfigMap)
	if !ok {
		return nil, fmt.Errorf("cluster-info is a %T", object)
	}
	return authorityIn(info)
}

func applyObject(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, bootstrapTime, true, func(ctx context.Context) (bool, error) {
		_, last = client.Resource(resource).Namespace(object.GetNamespace()).
			Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), errors.Join(err, last))
	}
	return nil
}

// deleteObject deletes an object if it exists.
func deleteObject(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	err := client.Resource(resource).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// decodeManifest splits a YAML stream into objects.
func decodeManifest(manifest []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("decode the bootstrap objects: %w", err)
		}
		objects = append(objects, object)
	}
}

// clusterInfo returns the ConfigMap that tells a machine with a token where the API
// server is and which authority to trust. The bootstrap signer adds a
// signature for each token.
func (b bootstrap) clusterInfo() (*unstructured.Unstructured, error) {
	ca, err := os.ReadFile(b.settings.path("pki", pki.ClusterAuthorities))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's authorities: %w", err)
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[""] = &clientcmdapi.Cluster{Server: b.settings.publicURL(), CertificateAuthorityData: ca}
	text, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("build cluster-info: %w", err)
	}
	return publicConfigMap(bootstrapapi.ConfigMapClusterInfo, map[string]string{bootstrapapi.KubeConfigKey: string(text)})
}

// networkInfo returns the ConfigMap that tells nodes which addresses pods and services
// have. Nodes route only pods' addresses for each other.
func (b bootstrap) networkInfo() (*unstructured.Unstructured, error) {
	return publicConfigMap("everynode-network", map[string]string{"podCIDR": b.settings.podRange.String(), "serviceCIDR": b.settings.serviceRange.String()})
}

// authoritiesMap is the name of the ConfigMap with the cluster's authorities.
const authoritiesMap = "everynode-authorities"

// publicConfigMap builds a ConfigMap of the namespace kube-public.
func publicConfigMap(name string, content map[string]string) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespacePublic},
		Data:       content,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, data)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", name, err)
	}
	return object.(*unstructured.Unstructured), nil
}
