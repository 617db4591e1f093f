package controlplane

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/controlplane/pki"
	"everynode/internal/datadir"
)

const keptValue = "a-value-that-etcd-does-not-have"

// checkEncrypted writes a Secret, and looks at it in etcd.
func checkEncrypted(t *testing.T, r *running) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "kept", Namespace: "default"}, StringData: map[string]string{"key": keptValue}}
	if _, err := r.admin.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for key, kept := range secretsInEtcd(t, r) {
		if !bytes.HasPrefix(kept, []byte(encryptionPrefix+firstKey+":")) || bytes.Contains(kept, []byte(keptValue)) {
			t.Errorf("%s is not encrypted", key)
		}
	}
	if info, err := os.Stat(filepath.Join(r.cfg.DataDir, "pki", encryptionFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key of Secrets: %v, %v", info, err)
	}
}

// secretsInEtcd returns the Secrets of a server as they are stored in its etcd.
func secretsInEtcd(t *testing.T, r *running) map[string][]byte {
	t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(r.cfg.DataDir, "etcd", "etcd.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = etcd.Close() }()
	got, err := etcd.Get(t.Context(), secretsKeyPrefix, clientv3.WithPrefix())
	if err != nil || len(got.Kvs) == 0 {
		t.Fatalf("no secrets in etcd: %v", err)
	}
	secrets := map[string][]byte{}
	for _, kv := range got.Kvs {
		secrets[string(kv.Key)] = kv.Value
	}
	return secrets
}

// checkRotation rotates the key of a running server, and looks for traces of the old key in
// etcd and in the server's files.
func checkRotation(t *testing.T, r *running) {
	before := secretsInEtcd(t, r)
	rotation, done, err := openRotation(t.Context(), Config{DataDir: r.cfg.DataDir}, r.adminConfig)
	if err != nil {
		t.Fatal(err)
	}
	rotation.lastRequests = 0 // nobody else writes
	state, err := func() (*SecretsKeys, error) {
		if err := rotation.run(t.Context()); err != nil {
			return nil, err
		}
		return rotation.store.secretsKeys(t.Context())
	}()
	if err := errors.Join(err, done()); err != nil {
		t.Fatal(err)
	}
	fresh := state.Keys[0].Name
	if len(state.Keys) != 1 || fresh == firstKey || state.Keys[0].Secrets != len(before) || !state.Encrypted || len(state.Servers) != 1 || !state.Servers[0].Current {
		t.Errorf("after the rotation: %+v", *state)
	}
	for key, kept := range secretsInEtcd(t, r) {
		if !bytes.HasPrefix(kept, []byte(encryptionPrefix+fresh+":")) {
			t.Errorf("%s is not encrypted with %s", key, fresh)
		}
	}
	file, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "pki", encryptionFile))
	if err != nil || bytes.Contains(file, []byte(firstKey)) || !bytes.Contains(file, []byte(fresh)) {
		t.Errorf("the server's keys are not %s alone (%v)", fresh, err)
	}
	record, err := readRecord(filepath.Join(r.cfg.DataDir, "version"))
	if err != nil || record.Format != keyringFormat {
		t.Errorf("an older release would start on this: %+v, %v", record, err)
	}
	checkKept(t, r)
}

// checkKept reads the Secret of checkEncrypted, and all others.
func checkKept(t *testing.T, r *running) {
	t.Helper()
	secret, err := r.admin.CoreV1().Secrets("default").Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil || string(secret.Data["key"]) != keptValue {
		t.Errorf("the Secret cannot be read: %v", err)
	}
	list, err := r.admin.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Errorf("%d Secrets, %v", len(list.Items), err)
	}
}

// New clusters encrypt. An older cluster stays as it was until somebody turns encryption
// on. From then on an older everynode, which could not read it, does not start.
func TestWhoEncryptsSecrets(t *testing.T) {
	const old = `{"format":1,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/16"}`
	for name, c := range map[string]struct {
		version string
		told    bool
		want    bool
	}{
		"a new cluster":              {"", false, true},
		"an old one":                 {old, false, false},
		"an old one that was told":   {old, true, true},
		"one that has been told":     {`{"format":2,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/16"}`, false, true},
		"one that is told once more": {`{"format":2,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/16"}`, true, true},
	} {
		s := testSettings(t, Config{DataDir: t.TempDir(), EncryptSecrets: c.told})
		if _, err := datadir.Claim(s.DataDir, datadir.Server); err != nil {
			t.Fatal(err)
		}
		if c.version != "" {
			writeTestFile(t, s.path("version"), c.version)
		}
		held, err := preflight(s)
		if err != nil {
			t.Fatal(name, err)
		}
		record, err := readRecord(s.path("version"))
		format := map[bool]int{false: 1, true: 2}[c.want]
		if s.encryptSecrets != c.want || err != nil || record.Format != format {
			t.Errorf("%s: encrypts %v, record %+v, %v", name, s.encryptSecrets, record, err)
		}
		if err := held.release(); err != nil {
			t.Error(err)
		}
	}
}

// A snapshot from before the encryption can be restored into its own cluster.
func TestSameRanges(t *testing.T) {
	const old, now = `{"format":1,"serviceCIDR":"198.19.0.0/16"}`, `{"format":2,"serviceCIDR":"198.19.0.0/16"}`
	if !sameRanges([]byte(now), []byte(old)) || sameRanges([]byte(now), []byte(`{"format":2}`)) || sameRanges([]byte(now), []byte("nonsense")) {
		t.Error("a record of another format is of another cluster, or one of other ranges is not")
	}
}

// Servers with the same CA have the same first key.
func TestKeyOfSecrets(t *testing.T) {
	var configs [][]byte
	for range 2 {
		ca, err := pki.NewAuthority(pki.ClusterCA, "test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			key, err := firstSecretsKey(ca)
			if err != nil {
				t.Fatal(err)
			}
			config, err := encryptionConfig([]secretsKey{key}, true)
			if err != nil {
				t.Fatal(err)
			}
			configs = append(configs, config)
		}
	}
	if !bytes.Equal(configs[0], configs[1]) || bytes.Equal(configs[1], configs[2]) {
		t.Error("the key does not follow from the CA")
	}
}
