package controlplane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"everynode/internal/controlplane/pki"
)

func testSealer(t *testing.T) *keySealer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := newKeySealer(&pki.Authority{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// Each step keeps the keys that Secrets are read with. Only the last step drops a key.
func TestKeyringSteps(t *testing.T) {
	sealer := testSealer(t)
	ring := keyring{}
	if names := ring.names(); !slices.Equal(names, []string{firstKey}) {
		t.Errorf("a cluster begins with %v", names)
	}
	for round := range 2 {
		old := ring.writer()
		begun, err := sealer.begun(ring, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fresh := begun.Next
		switched := begun.advanced()
		ring = switched.advanced()
		for what, c := range map[string]struct {
			ring keyring
			want []string
			next string
		}{
			"known": {begun, []string{old, fresh}, fresh}, "in use": {switched, []string{fresh, old}, fresh}, "alone": {ring, []string{fresh}, ""},
		} {
			if names := c.ring.names(); !slices.Equal(names, c.want) || c.ring.Next != c.next {
				t.Errorf("the new key is %s: %v, next %q", what, names, c.ring.Next)
			}
			if err := c.ring.check(); err != nil {
				t.Error(err)
			}
		}
		if want := int64(3 * (round + 1)); ring.Generation != want {
			t.Errorf("generation %d, want %d", ring.Generation, want)
		}
	}
}

// Only the key of the CA that sealed a keyring opens it. What etcd has of it reveals nothing.
func TestKeyringIsSealed(t *testing.T) {
	sealer := testSealer(t)
	ring, err := sealer.begun(keyring{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ring.revision = 1
	keys, err := sealer.open(ring)
	if err != nil || len(keys) != 2 || !bytes.Equal(keys[0].key, sealer.first.key) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	data, err := json.Marshal(ring)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if text, err := json.Marshal(key.key); err != nil || bytes.Contains(data, bytes.Trim(text, `"`)) {
			t.Errorf("%s is in etcd as it is (%v)", key.name, err)
		}
	}
	_, err = testSealer(t).open(ring)
	wantRefusal(t, "another CA", err, "the key ca-1 of Secrets", "sealed for a CA other", "backup")
	ring.Keys[0].Name, ring.Keys[1].Name = ring.Keys[1].Name, ring.Keys[0].Name
	_, err = sealer.open(ring)
	wantRefusal(t, "keys whose names were changed", err, "sealed for a CA other")
}

// What somebody else has written under the key is not taken for a keyring.
func TestKeyringOfNobody(t *testing.T) {
	etcd, client := sharedEtcd(t)
	store, err := sharingServer(t, etcd).etcd().open()
	if err != nil {
		t.Fatal(err)
	}
	defer store.close()
	if ring, err := store.keyring(t.Context()); err != nil || ring.revision != 0 || ring.writer() != firstKey {
		t.Errorf("a cluster without: %+v, %v", ring, err)
	}
	for _, text := range []string{"nonsense", "{}", `{"generation":1}`, `{"generation":1,"keys":[{"name":"a"}],"next":"b"}`, `{"generation":1,"keys":[{"name":"a"},{"name":"b"}]}`} {
		if _, err := client.Put(t.Context(), keyringKey, text); err != nil {
			t.Fatal(err)
		}
		_, err := store.keyring(t.Context())
		wantRefusal(t, text, err, keyringKey, "backup")
	}
}
