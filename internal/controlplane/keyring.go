package controlplane

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"everynode/internal/controlplane/pki"
)

// keyringKey is where the servers of a cluster keep, in their etcd, the keys that Secrets
// are encrypted with there. So all servers have the same keys, and a snapshot has the keys
// of its Secrets. They are sealed with a key that is derived from the key of the cluster's
// CA: whoever can read only etcd has none of them.
const keyringKey = "/registry/everynode/secrets-keys"

// keyring is these keys. The zero value stands for a cluster that has never rotated them:
// it has no keyring, and its only key is firstKey.
type keyring struct {
	// Generation grows by one with each change. Servers whose generations differ by one can
	// read what the other writes. So nothing may change before all servers have the last change.
	Generation int64 `json:"generation"`
	// Keys are for reading, and the first one is for writing.
	Keys []sealedKey `json:"keys"`
	// Next is the name of the new key of a rotation; empty: no rotation is under way.
	Next string `json:"next,omitempty"`

	revision int64 // of the keyring in etcd; 0: there is none
}

// sealedKey is a key as it is stored in etcd.
type sealedKey struct {
	Name string    `json:"name"`
	Made time.Time `json:"made,omitzero"` // zero: with the cluster
	// Sealed is the key, sealed once for each CA that can open it, by keySealer.id.
	Sealed map[string][]byte `json:"sealed"`
}

// names returns the names of the keys, the one that Secrets are written with first.
func (k keyring) names() []string {
	if len(k.Keys) == 0 {
		return []string{firstKey}
	}
	var names []string
	for _, key := range k.Keys {
		names = append(names, key.Name)
	}
	return names
}

// writer returns the name of the key that Secrets are written with.
func (k keyring) writer() string { return k.names()[0] }

// advanced returns the keyring after the next step of a rotation. Before that step, all
// servers must have k. Before the last step, all Secrets must be written with the new key.
func (k keyring) advanced() keyring {
	next := keyring{Generation: k.Generation + 1, revision: k.revision}
	i := slices.IndexFunc(k.Keys, func(key sealedKey) bool { return key.Name == k.Next })
	next.Keys = []sealedKey{k.Keys[i]}
	if i > 0 { // Secrets are not written with it yet
		next.Next = k.Next
		next.Keys = append(next.Keys, slices.Delete(slices.Clone(k.Keys), i, i+1)...)
	}
	return next
}

// check refuses a keyring that no server can have written.
func (k keyring) check() error {
	if k.Generation < 1 || len(k.Keys) == 0 || k.Next != "" && !slices.Contains(k.names(), k.Next) || k.Next == "" && len(k.Keys) != 1 {
		return fmt.Errorf("%s in etcd is not what an everynode server writes there: restore it from a backup", keyringKey)
	}
	return nil
}

// keySealer seals and opens the keys of a keyring.
type keySealer struct {
	id    string // of the CA
	aead  cipher.AEAD
	first secretsKey
}

func newKeySealer(ca *pki.Authority) (*keySealer, error) {
	first, err := firstSecretsKey(ca)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(ca, "everynode: sealing of the keys of Secrets, 1")
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(ca.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("read the name of the key that seals the keys of Secrets: %w", err)
	}
	sum := sha256.Sum256(public)
	return &keySealer{hex.EncodeToString(sum[:8]), aead, first}, nil
}

// newAEAD returns a cipher with a key that is derived from the key of an authority.
func newAEAD(ca *pki.Authority, purpose string) (cipher.AEAD, error) {
	key, err := pki.DeriveKey(ca, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key that seals the others: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make the cipher that seals keys: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make the cipher that seals keys: %w", err)
	}
	return aead, nil
}

func (b *keySealer) seal(k secretsKey, made time.Time) sealedKey {
	return sealedKey{Name: k.name, Made: made, Sealed: map[string][]byte{b.id: b.aead.Seal(nil, nil, k.key, []byte(k.name))}}
}

// open returns the keys, in the order of the keyring.
func (b *keySealer) open(k keyring) (keys []secretsKey, err error) {
	if k.revision == 0 {
		return []secretsKey{b.first}, nil
	}
	for _, sealed := range k.Keys {
		key, err := b.aead.Open(nil, nil, sealed.Sealed[b.id], []byte(sealed.Name))
		if err != nil || len(key) != secretsKeySize {
			return nil, fmt.Errorf("the key %s of Secrets (%s in etcd) was sealed for a CA other than this server's, or is damaged: "+
				"restore pki/ and etcd from the same backup", sealed.Name, keyringKey)
		}
		keys = append(keys, secretsKey{sealed.Name, key})
	}
	return keys, nil
}

// alsoFor seals the keys for another CA as well.
func (b *keySealer) alsoFor(k keyring, other *keySealer) (keyring, error) {
	keys, err := b.open(k)
	if err != nil {
		return k, err
	}
	k.Keys = slices.Clone(k.Keys)
	for i, key := range keys {
		sealed := maps.Clone(k.Keys[i].Sealed)
		maps.Copy(sealed, other.seal(key, time.Time{}).Sealed)
		k.Keys[i].Sealed = sealed
	}
	return k, nil
}

// onlyFor drops what is sealed for CAs other than id.
func (k keyring) onlyFor(id string) keyring {
	k.Keys = slices.Clone(k.Keys)
	for i, key := range k.Keys {
		k.Keys[i].Sealed = map[string][]byte{id: key.Sealed[id]}
	}
	return k
}

// begun returns the keyring with a new key, with which Secrets will be written.
func (b *keySealer) begun(k keyring, now time.Time) (keyring, error) {
	fresh := secretsKey{key: make([]byte, secretsKeySize)}
	name := make([]byte, 4)
	for _, random := range [][]byte{fresh.key, name} {
		if _, err := rand.Read(random); err != nil {
			return k, fmt.Errorf("make a key: %w", err)
		}
	}
	fresh.name = "key-" + hex.EncodeToString(name)
	keys := slices.Clone(k.Keys)
	if len(keys) == 0 {
		keys = append(keys, b.seal(b.first, time.Time{}))
	}
	return keyring{Generation: k.Generation + 1, Keys: append(keys, b.seal(fresh, now.UTC().Truncate(time.Second))), Next: fresh.name, revision: k.revision}, nil
}

// keyring reads the keyring of the cluster.
func (c *sharedStore) keyring(ctx context.Context) (keyring, error) {
	var got *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Get(ctx, keyringKey)
		return err
	})
	if err != nil {
		return keyring{}, err
	}
	return parseKeyring(got)
}

func parseKeyring(got *clientv3.GetResponse) (keyring, error) {
	if len(got.Kvs) == 0 {
		return keyring{}, nil
	}
	k := keyring{}
	if err := json.Unmarshal(got.Kvs[0].Value, &k); err != nil {
		return keyring{}, keyring{}.check()
	}
	k.revision = got.Kvs[0].ModRevision
	return k, k.check()
}

// replaceKeyring writes the keyring that comes after one that was read, unless somebody
// else has written it since.
func (c *sharedStore) replaceKeyring(ctx context.Context, next keyring) (done bool, err error) {
	data, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("encode the keys of Secrets: %w", err)
	}
	return c.putAt(ctx, keyringKey, data, next.revision)
}
