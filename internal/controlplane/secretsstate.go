package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// secretsKeyPrefix is where the API server keeps Secrets in etcd.
	secretsKeyPrefix = "/registry/secrets/"
	// secretsPage is how many of them are read at a time.
	secretsPage = 200
)

// SecretsKeys says how the Secrets of a cluster are encrypted in etcd.
type SecretsKeys struct {
	// Encrypted: the servers encrypt the Secrets that they write.
	Encrypted bool `json:"encrypted"`
	// Step is what a rotation does next, one of the constants below.
	Step string `json:"step"`
	// Generation is the generation of the keyring. It grows with each step.
	Generation int64 `json:"generation"`
	// Keys are the keys that servers have. Secrets are written with the first one.
	Keys []SecretsKey `json:"keys"`
	// Clear is the number of Secrets that are not encrypted. Unreadable is the number of those
	// that are encrypted with keys that the cluster lacks.
	Clear      int `json:"clear"`
	Unreadable int `json:"unreadable"`
	// Servers are the running servers.
	Servers []ServerKeys `json:"servers"`
}

// The steps of a rotation.
const (
	KeysSteady     = "none"    // no rotation is under way
	KeysDistribute = "reading" // all servers are getting a new key
	KeysRewrite    = "writing" // Secrets are written with it, then the old one is dropped
)

// SecretsKey describes a key, without the key itself.
type SecretsKey struct {
	Name string `json:"name"`
	// Made is when the key was made; zero: with the cluster.
	Made    time.Time `json:"made,omitzero"`
	Writes  bool      `json:"writes"`
	Secrets int       `json:"secrets"` // how many are encrypted with it
}

// ServerKeys is a running server. Current: it has the keys, or trusts the CAs, that the cluster has.
type ServerKeys struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Current bool   `json:"current"`
}

// SecretsKeyState reads the state of a running cluster, and changes nothing.
func SecretsKeyState(ctx context.Context, cfg Config) (*SecretsKeys, error) {
	s, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	c, done, err := s.runningEtcd().open(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := c.secretsKeys(ctx)
	if err := errors.Join(err, done()); err != nil {
		return nil, err
	}
	return keys, nil
}

func (c *sharedStore) secretsKeys(ctx context.Context) (*SecretsKeys, error) {
	ring, err := c.keyring(ctx)
	if err != nil {
		return nil, err
	}
	servers, err := c.presences(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := c.secretsByKey(ctx)
	if err != nil {
		return nil, err
	}
	out := &SecretsKeys{Step: KeysSteady, Generation: ring.Generation, Clear: len(uses[""])}
	switch {
	case ring.Next == "":
	case ring.Next == ring.writer():
		out.Step = KeysRewrite
	default:
		out.Step = KeysDistribute
	}
	for i, name := range ring.names() {
		key := SecretsKey{Name: name, Writes: i == 0, Secrets: len(uses[name])}
		if len(ring.Keys) > 0 {
			key.Made = ring.Keys[i].Made
		}
		out.Keys = append(out.Keys, key)
		delete(uses, name)
	}
	delete(uses, "")
	for _, lost := range uses {
		out.Unreadable += len(lost)
	}
	for _, p := range servers {
		out.Servers = append(out.Servers, ServerKeys{p.Name, p.Address, p.Loaded >= ring.Generation})
	}
	out.Encrypted = checkEncrypts(servers) == nil
	return out, nil
}

// checkEncrypts returns an error if one of the servers does not encrypt Secrets.
func checkEncrypts(servers []presence) error {
	for _, p := range servers {
		if p.Loaded != notLoaded && !p.Encrypts {
			return fmt.Errorf("%s stores Secrets unencrypted, so there is no key to rotate: start each server of the cluster with --encrypt-secrets first (docs/security.md)", p)
		}
	}
	return nil
}

// secretsByKey lists all Secrets by the name of the key that they are encrypted with; ""
// for those in the clear.
func (c *sharedStore) secretsByKey(ctx context.Context) (map[string][]types.NamespacedName, error) {
	uses := map[string][]types.NamespacedName{}
	from, end := secretsKeyPrefix, clientv3.GetPrefixRangeEnd(secretsKeyPrefix)
	for {
		var got *clientv3.GetResponse
		err := c.do(ctx, func(ctx context.Context) (err error) {
			got, err = c.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(secretsPage))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read Secrets in etcd: %w", err)
		}
		for _, kv := range got.Kvs {
			namespace, name, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), secretsKeyPrefix), "/")
			key := keyOfValue(kv.Value)
			uses[key] = append(uses[key], types.NamespacedName{Namespace: namespace, Name: name})
		}
		if !got.More {
			return uses, nil
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
}

// secretsNotOf lists the Secrets that are not encrypted with a key.
func (c *sharedStore) secretsNotOf(ctx context.Context, key string) (names []types.NamespacedName, err error) {
	uses, err := c.secretsByKey(ctx)
	for other, list := range uses {
		if other != key {
			names = append(names, list...)
		}
	}
	return names, err
}

// keyOfValue returns the name of the key that a value in etcd is encrypted with; "" for none.
func keyOfValue(value []byte) string {
	rest, ok := bytes.CutPrefix(value, []byte(encryptionPrefix))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte(":"))
	return string(name)
}
