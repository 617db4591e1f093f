package controlplane

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/datadir"
)

const encryptedPrefix = "k8s:enc:secretbox:v1:ca-1:"

// checkEncrypted looks into etcd.
func checkEncrypted(t *testing.T, r *running) {
	const value = "a-value-that-etcd-does-not-have"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "kept", Namespace: "default"}, StringData: map[string]string{"key": value}}
	if _, err := r.admin.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(r.cfg.DataDir, "etcd", "etcd.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = etcd.Close() }()
	kept, err := etcd.Get(t.Context(), "/registry/secrets/", clientv3.WithPrefix())
	if err != nil || len(kept.Kvs) == 0 {
		t.Fatalf("%d secrets in etcd, %v", len(kept.Kvs), err)
	}
	for _, kv := range kept.Kvs {
		if !bytes.HasPrefix(kv.Value, []byte(encryptedPrefix)) || bytes.Contains(kv.Value, []byte(value)) {
			t.Errorf("%s is not encrypted", kv.Key)
		}
	}
	if info, err := os.Stat(filepath.Join(r.cfg.DataDir, "pki", encryptionFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key of Secrets: %v, %v", info, err)
	}
}

// New clusters encrypt. One that was made before goes on as it was until it is told,
// and from then on an older everynode, which could not read it, does not start.
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

// A snapshot from before the encryption goes back into the cluster that it is of.
func TestSameRanges(t *testing.T) {
	const old, now = `{"format":1,"serviceCIDR":"198.19.0.0/16"}`, `{"format":2,"serviceCIDR":"198.19.0.0/16"}`
	if !sameRanges([]byte(now), []byte(old)) || sameRanges([]byte(now), []byte(`{"format":2}`)) || sameRanges([]byte(now), []byte("nonsense")) {
		t.Error("a record of another format is of another cluster, or one of other ranges is not")
	}
}

// Servers with the same CA have the same key.
func TestKeyOfSecrets(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	var configs [][]byte
	for _, dir := range dirs {
		ca, err := ensureAuthority(dir, clusterCA, "test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			config, err := encryptionConfig(ca, true)
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
