package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"everynode/internal/controlplane/pki"
)

// publishAuthorities tells nodes, joining machines and extension API servers which
// authorities there are. publishRootCA tells pods.
func publishAuthorities(ctx context.Context, data dataFolder, cfg *rest.Config) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client for the cluster's authorities: %w", err)
	}
	ca, err := os.ReadFile(data.path("pki", pki.ClusterAuthorities))
	if err != nil {
		return fmt.Errorf("read the cluster's authorities: %w", err)
	}
	kubelets, err := os.ReadFile(data.path("pki", pki.KubeletAuthorities))
	if err != nil {
		return fmt.Errorf("read the authorities of kubelets: %w", err)
	}
	for _, one := range []struct {
		namespace, name string
		edit            func(data map[string]string) (changed bool, err error)
	}{
		{metav1.NamespacePublic, authoritiesMap, replaceText("ca.crt", ca)},
		{metav1.NamespacePublic, bootstrapapi.ConfigMapClusterInfo, func(data map[string]string) (bool, error) { return replaceCA(data, ca) }},
		{metav1.NamespaceSystem, "kubelet-authorities", replaceText("ca.crt", kubelets)}, // of the add-on metrics
	} {
		if err := editConfigMap(ctx, client, one.namespace, one.name, one.edit); err != nil {
			return err
		}
	}
	return forgetClientCA(ctx, client, ca)
}

// editConfigMap edits the data of a ConfigMap if it exists. If it does not, whoever creates
// it later writes the new data.
func editConfigMap(ctx context.Context, client kubernetes.Interface, namespace, name string, edit func(data map[string]string) (changed bool, err error)) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	object, err := maps.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if object.Data == nil {
		object.Data = map[string]string{}
	}
	changed, err := edit(object.Data)
	if err == nil && changed {
		_, err = maps.Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return fmt.Errorf("write the cluster's authorities into %s: %w", name, err)
	}
	return nil
}

func replaceText(key string, text []byte) func(data map[string]string) (bool, error) {
	return func(data map[string]string) (changed bool, err error) {
		changed = data[key] != string(text)
		data[key] = string(text)
		return changed, nil
	}
}

// replaceCA replaces the CA in a cluster-info. The bootstrap signer then signs it again.
func replaceCA(info map[string]string, ca []byte) (changed bool, err error) {
	kubeconfig, err := clientcmd.Load([]byte(info[bootstrapapi.KubeConfigKey]))
	if err != nil {
		return false, err
	}
	for _, cluster := range kubeconfig.Clusters {
		changed = changed || !bytes.Equal(cluster.CertificateAuthorityData, ca)
		cluster.CertificateAuthorityData = ca
	}
	if !changed {
		return false, nil
	}
	text, err := clientcmd.Write(*kubeconfig)
	info[bootstrapapi.KubeConfigKey] = string(text)
	return true, err
}

// forgetClientCA deletes the ConfigMap that tells extension API servers whom to trust, if it
// names authorities that are no longer trusted. API servers only ever add to it, and create
// it again when it is missing.
func forgetClientCA(ctx context.Context, client kubernetes.Interface, ca []byte) error {
	const name = "extension-apiserver-authentication"
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	object, err := maps.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	named, err := certutil.ParseCertsPEM([]byte(object.Data["client-ca-file"]))
	if err != nil {
		return nil // it names none
	}
	for _, c := range named {
		text, err := certutil.EncodeCertificates(c)
		if err != nil {
			return fmt.Errorf("encode an authority: %w", err)
		}
		if !shareCertificate(text, ca) {
			err := maps.Delete(ctx, name, *metav1.NewRVDeletionPrecondition(object.ResourceVersion))
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete %s, which names a CA that is no longer trusted: %w", name, err)
			}
			return nil
		}
	}
	return nil
}
