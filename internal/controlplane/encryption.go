package controlplane

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// encryptionFile, below pki/, tells the API server how Secrets are kept in etcd.
//
// Its key follows from the key of the cluster's CA, as that of the kubelets' authority
// does: all servers of a cluster have it, and so does one that is restored, without one
// more file to copy. Whoever reads etcd alone reads no Secret.
const encryptionFile = "secrets-encryption.yaml"

// writeEncryption writes it. Every server can read Secrets in the clear and encrypted
// ones; what is first is how it writes them. So a cluster can be turned over while it
// runs, once each of its servers knows the key.
func (s *settings) writeEncryption() error {
	ca, err := loadPair(pairPaths(s.path("pki"), clusterCA))
	if err != nil {
		return fmt.Errorf("derive the key of Secrets: %w", err)
	}
	config, err := encryptionConfig(ca, s.encryptSecrets)
	if err != nil {
		return err
	}
	return writeIfChanged(s.path("pki", encryptionFile), config)
}

func encryptionConfig(ca *authority, encrypt bool) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("derive the key of Secrets: %w", err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "everynode: encryption of Secrets in etcd, 1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of Secrets: %w", err)
	}
	clear := apiserverv1.ProviderConfiguration{Identity: &apiserverv1.IdentityConfiguration{}}
	box := apiserverv1.ProviderConfiguration{Secretbox: &apiserverv1.SecretboxConfiguration{
		Keys: []apiserverv1.Key{{Name: "ca-1", Secret: base64.StdEncoding.EncodeToString(key)}}}}
	providers := []apiserverv1.ProviderConfiguration{clear, box}
	if encrypt {
		providers = []apiserverv1.ProviderConfiguration{box, clear}
	}
	data, err := yaml.Marshal(apiserverv1.EncryptionConfiguration{
		TypeMeta:  metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "EncryptionConfiguration"},
		Resources: []apiserverv1.ResourceConfiguration{{Resources: []string{"secrets"}, Providers: providers}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode how Secrets are kept: %w", err)
	}
	return data, nil
}
