package controlplane

import (
	"encoding/base64"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
)

const (
	// encryptionFile, below pki/, tells the API server how Secrets are kept in etcd.
	encryptionFile = "secrets-encryption.yaml"
	// encryptionPrefix is what a value in etcd begins with that is encrypted so. The name
	// of the key and a colon follow.
	encryptionPrefix = "k8s:enc:secretbox:v1:"
	// firstKey is the name of the key that a cluster begins with.
	firstKey = "ca-1"
	// secretsKeySize is that of a key of secretbox, in bytes.
	secretsKeySize = 32
)

// secretsKey is a key that Secrets are encrypted with in etcd.
type secretsKey struct {
	name string
	key  []byte
}

// firstSecretsKey follows from the key of the cluster's CA, as that of the kubelets'
// authority does: all servers of a cluster have it, and so does one that is restored,
// without one more file to copy. Whoever reads etcd alone reads no Secret.
func firstSecretsKey(ca *pki.Authority) (secretsKey, error) {
	key, err := pki.DeriveKey(ca, "everynode: encryption of Secrets in etcd, 1", secretsKeySize)
	if err != nil {
		return secretsKey{}, fmt.Errorf("derive the key of Secrets: %w", err)
	}
	return secretsKey{firstKey, key}, nil
}

// writeEncryption writes the file of the API server, with the keys that the cluster has.
func (s *settings) writeEncryption() error {
	keys := s.secretsKeys
	if keys == nil {
		ca, err := pki.Load(pki.Paths(s.path("pki"), pki.ClusterCA))
		if err != nil {
			return fmt.Errorf("derive the key of Secrets: %w", err)
		}
		first, err := firstSecretsKey(ca)
		if err != nil {
			return err
		}
		keys = []secretsKey{first}
	}
	config, err := encryptionConfig(keys, s.encryptSecrets)
	if err != nil {
		return err
	}
	return private.WriteIfChanged(s.path("pki", encryptionFile), config)
}

// encryptionConfig has Secrets written with the first of keys, or in the clear. Every
// server can read those in the clear, and those of all keys. So a cluster can be turned
// over while it runs, once each of its servers knows the key.
func encryptionConfig(keys []secretsKey, encrypt bool) ([]byte, error) {
	clear := apiserverv1.ProviderConfiguration{Identity: &apiserverv1.IdentityConfiguration{}}
	box := apiserverv1.ProviderConfiguration{Secretbox: &apiserverv1.SecretboxConfiguration{}}
	for _, k := range keys {
		box.Secretbox.Keys = append(box.Secretbox.Keys, apiserverv1.Key{Name: k.name, Secret: base64.StdEncoding.EncodeToString(k.key)})
	}
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
