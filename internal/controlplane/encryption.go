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
	// encryptionPrefix begins each encrypted value in etcd. The name of the key and a colon
	// follow.
	encryptionPrefix = "k8s:enc:secretbox:v1:"
	// firstKey is the name of a cluster's first key.
	firstKey = "ca-1"
	// secretsKeySize is the size of a key of secretbox, in bytes.
	secretsKeySize = 32
)

// secretsKey is a key that Secrets are encrypted with in etcd.
type secretsKey struct {
	name string
	key  []byte
}

// firstSecretsKey derives the first key from the key of the cluster's CA, as the key of the
// kubelets' authority is derived. So all servers of a cluster have it, and so does a restored
// one, without another file to copy. Whoever can read only etcd cannot read Secrets.
func firstSecretsKey(ca *pki.Authority) (secretsKey, error) {
	key, err := pki.DeriveKey(ca, "everynode: encryption of Secrets in etcd, 1", secretsKeySize)
	if err != nil {
		return secretsKey{}, fmt.Errorf("derive the key of Secrets: %w", err)
	}
	return secretsKey{firstKey, key}, nil
}

// writeEncryption writes encryptionFile with the keys that the cluster has.
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

// encryptionConfig makes the API server write Secrets with the first of keys or, without
// encrypt, in the clear. Either way it can read Secrets in the clear, and those of all
// keys. So a running cluster can change over, once each of its servers knows the key.
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
