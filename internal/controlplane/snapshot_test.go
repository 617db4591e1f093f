package controlplane

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"everynode/internal/controlplane/pki"
	"everynode/internal/datadir"
)

// stored is a data directory with keys and a running etcd.
type stored struct {
	*settings
	store  *store
	client *clientv3.Client
}

// startStored starts etcd in a data directory, and makes what is missing there.
func startStored(t *testing.T, dir string) *stored {
	t.Helper()
	s, err := Config{DataDir: dir, PodCIDR: "198.18.0.0/16", ServiceCIDR: "198.19.0.0/16"}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	held, err := preflightFiles(s)
	if err != nil {
		t.Fatal(err)
	}
	store, err := openStore(s.path("etcd"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := store.start(ctx); err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{store.url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := errors.Join(client.Close(), store.stop(stopTime), held.release()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return &stored{s, store, client}
}

// preflightFiles does what a server does to its data directory first.
func preflightFiles(s *settings) (*claim, error) {
	held, err := claimData(s)
	if err != nil {
		return nil, err
	}
	return held, pki.Ensure(s.path("pki"), nil, time.Now())
}

func (s *stored) put(t *testing.T, key, value string) int64 {
	t.Helper()
	answer, err := s.client.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

func (s *stored) get(t *testing.T, key string) string {
	t.Helper()
	answer, err := s.client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Kvs) == 0 {
		return ""
	}
	return string(answer.Kvs[0].Value)
}

// saveOf saves the running cluster to a new file.
func saveOf(t *testing.T, dataDir string) (file string, saved *SavedSnapshot) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "snapshot.tar")
	saved, err := SaveSnapshot(t.Context(), Config{DataDir: dataDir}, SnapshotTarget{File: file, Everynode: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return file, saved
}

func TestSnapshotOfEtcd(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	atSave := old.put(t, "/registry/b", "1")
	file, saved := saveOf(t, old.DataDir)
	if saved.Revision != atSave || saved.Keys != 2 || saved.Size != fileSize(file) || len(saved.SHA256) != 64 || len(saved.Hash) != 8 {
		t.Errorf("saved: %+v", saved)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) != 0 {
		t.Errorf("left beside the file: %q", left)
	}
	old.put(t, "/registry/b", "2")
	last := old.put(t, "/registry/c", "1")

	dir := filepath.Join(t.TempDir(), "new")
	restored, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if restored.Revision != atSave+revisionBump || restored.Keys != 2 || len(restored.Missing) != 0 || restored.Saved.Everynode != "test" {
		t.Errorf("restored: %+v", restored)
	}
	sameShared(t, old.DataDir, dir)
	if _, err := datadir.Claim(dir, datadir.Up); err != nil {
		t.Error("everynode up cannot go on with what was restored:", err)
	}
	checkRestored(t, startStored(t, dir), last, restored.Revision)
}

// checkRestored checks the keys, and what a client from before is told.
func checkRestored(t *testing.T, s *stored, last, begin int64) {
	t.Helper()
	if a, b, c := s.get(t, "/registry/a"), s.get(t, "/registry/b"), s.get(t, "/registry/c"); a != "1" || b != "1" || c != "" {
		t.Errorf("restored values: %q, %q, %q", a, b, c)
	}
	if next := s.put(t, "/registry/d", "1"); next <= last || next <= begin {
		t.Errorf("the first revision is %d; %d was seen, and %d was promised", next, last, begin)
	}
	for _, revision := range []int64{1, last - 1, last, last + 1} {
		if _, err := s.client.Get(t.Context(), "/registry/b", clientv3.WithRev(revision)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("reading at revision %d: %v", revision, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if answer := <-s.client.Watch(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithRev(revision)); answer.CompactRevision != begin {
			t.Errorf("watching from revision %d: %+v", revision, answer)
		}
		cancel()
	}
}

// sameShared compares the keys and ranges of two data directories.
func sameShared(t *testing.T, a, b string) {
	t.Helper()
	for _, name := range sharedNames() {
		one, err := os.ReadFile(filepath.Join(a, name))
		two, err2 := os.ReadFile(filepath.Join(b, name))
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s is not the same: %v", name, err)
		}
		if info, err := os.Stat(filepath.Join(b, name)); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
}

// A restored cluster can be saved and restored again, in place: its etcd is
// moved away, and everything else stays.
func TestSnapshotInPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startStored(t, dir)
	s.put(t, "/registry/a", "1")
	file, _ := saveOf(t, dir)
	_, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: dir})
	wantError(t, err, "in use by another everynode server (process ")

	// As after a stop: nothing holds the lock, and a file of ours must stay.
	moved := filepath.Join(t.TempDir(), "copy")
	copyShared(t, dir, moved)
	writeTestFile(t, filepath.Join(moved, "cluster.json"), "{}")
	writeTestFile(t, filepath.Join(moved, "etcd", "etcd.sock"), "")
	writeTestFile(t, filepath.Join(moved, ".restore-1", "etcd", "half"), "")
	if _, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: moved}); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, moved); !slices.Equal(got, []string{"cluster.json", "etcd", "everynode.json", "pki", "server.lock", "version"}) {
		t.Errorf("the data directory has %q", got)
	}
	if _, err := datadir.Claim(moved, datadir.Up); err == nil {
		t.Error("everynode up may take a directory whose server has lost only its etcd")
	}
	if got := startStored(t, moved).get(t, "/registry/a"); got != "1" {
		t.Errorf("/registry/a is %q", got)
	}
}

// etcd's own snapshot can be restored as well, and the result names what it lacks.
func TestSnapshotBare(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", "1")
	file, _ := saveOf(t, old.DataDir)
	bare := filepath.Join(t.TempDir(), "etcd.db")
	writeTestFile(t, bare, string(members(t, file)[databaseName]))

	dir := filepath.Join(t.TempDir(), "new")
	restored, err := RestoreSnapshot(t.Context(), RestoreConfig{File: bare, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if restored.Saved != nil || !slices.Equal(restored.Missing, sharedNames()) {
		t.Errorf("restored: %+v", restored)
	}
	for _, want := range []string{"pki/ca.key", "every node has to join again", "--service-cidr"} {
		if !strings.Contains(restored.Advice(), want) {
			t.Errorf("the advice lacks %q:\n%s", want, restored.Advice())
		}
	}
	if got := startStored(t, dir).get(t, "/registry/a"); got != "1" {
		t.Errorf("/registry/a is %q", got)
	}

	// The keys are there: nothing is missing.
	kept := filepath.Join(t.TempDir(), "kept")
	copyShared(t, old.DataDir, kept)
	restored, err = RestoreSnapshot(t.Context(), RestoreConfig{File: bare, DataDir: kept})
	if err != nil || len(restored.Missing) != 0 || restored.Advice() != "" {
		t.Errorf("restored: %+v, %v", restored, err)
	}
}

func TestNewerMinor(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"v1.38.0", "v1.37.2", true}, {"v2.0.0", "v1.37.2", true}, {"v1.37.9", "v1.37.2", false}, {"v1.36.0", "v1.37.2", false},
		{"3.8.0", "3.7.0", true}, {"3.6.0", "3.7.0", false}, {"", "3.7.0", false}, {"v1.38.0", "unknown", false},
	} {
		if got := newerMinor(c.a, c.b); got != c.want {
			t.Errorf("%q is newer than %q: %v", c.a, c.b, got)
		}
	}
}

// The error says what is wrong with a file, and the place for the data directory
// stays as it was.
func TestRestoreRefuses(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	old.put(t, "/registry/a", strings.Repeat("x", 100_000))
	file, _ := saveOf(t, old.DataDir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	db := members(t, file)[databaseName]
	flipped := func(data []byte, at int) []byte {
		data = slices.Clone(data)
		data[at] ^= 1
		return data
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, "is not a snapshot: it has 0 bytes"},
		"text":               {bytes.Repeat([]byte("text "), 1000), "is not a snapshot: neither"},
		"compressed":         {append([]byte("\x1f\x8b"), whole[:1000]...), "is compressed"},
		"another archive":    {archive(t, "etc/passwd", []byte("root")), "does not begin with manifest.json"},
		"cut off early":      {whole[:700], "cut off"},
		"cut off in a key":   {whole[:bytes.Index(whole, []byte("BEGIN EC PRIVATE KEY"))+20], "was cut off"},
		"cut off between":    {whole[:len(whole)-1024-len(db)-512], "was cut off"},
		"cut off late":       {whole[:len(whole)-10_000], "inside etcd.db: it was cut off"},
		"damaged database":   {flipped(whole, len(whole)-50_000), "etcd.db is not what was saved"},
		"damaged key":        {flipped(whole, bytes.Index(whole, []byte("BEGIN EC PRIVATE KEY"))+40), "is not what was saved"},
		"newer":              {withManifest(t, whole, func(s *Snapshot) { s.Format = 2 }), "it has format 2, made by a newer everynode (test)"},
		"elsewhere":          {withManifest(t, whole, func(s *Snapshot) { s.Members[1].Name = "../../evil" }), "manifest is damaged"},
		"a member less":      {withManifest(t, whole, func(s *Snapshot) { s.Members = s.Members[1:] }), "manifest is damaged"},
		"bare, damaged":      {flipped(db, len(db)-100), "does not match its hash"},
		"bare, cut off":      {db[:len(db)-1], "no hash at its end"},
		"bare, without hash": {db[:len(db)-32], "--skip-hash-check"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			bad := filepath.Join(t.TempDir(), "bad")
			writeTestFile(t, bad, string(test.data))
			_, err := RestoreSnapshot(t.Context(), RestoreConfig{File: bad, DataDir: filepath.Join(parent, "data")})
			wantError(t, err, test.want)
			if left := entriesOf(t, parent); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// A data directory that cannot be restored into is left as it is.
func TestRestoreRefusesTarget(t *testing.T) {
	old := startStored(t, filepath.Join(t.TempDir(), "old"))
	file, _ := saveOf(t, old.DataDir)
	restore := func(dir, want string) {
		t.Helper()
		before := entriesOf(t, dir)
		_, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: dir})
		wantError(t, err, want)
		if after := entriesOf(t, dir); !slices.Equal(before, after) {
			t.Errorf("the data directory had %q, and has %q", before, after)
		}
	}
	used := t.TempDir()
	writeTestFile(t, filepath.Join(used, "etcd", "data", "member", "wal", "0.wal"), "")
	restore(used, "which everynode did not make")
	writeTestFile(t, filepath.Join(used, "version"), `{"format":1,"serviceCIDR":"198.19.0.0/16","podCIDR":"198.18.0.0/16"}`)
	_, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: used})
	wantError(t, err, "contains a cluster's etcd")

	other := startStored(t, filepath.Join(t.TempDir(), "other"))
	foreign := filepath.Join(t.TempDir(), "foreign")
	copyShared(t, other.DataDir, foreign)
	restore(foreign, "pki/ca.key belongs to a different cluster from the snapshot")

	ranges := filepath.Join(t.TempDir(), "ranges")
	writeTestFile(t, filepath.Join(ranges, "version"), `{"format":1,"serviceCIDR":"10.96.0.0/16","podCIDR":"10.42.0.0/16"}`)
	restore(ranges, "version belongs to a different cluster from the snapshot")

	_, err = RestoreSnapshot(t.Context(), RestoreConfig{File: file + "x", DataDir: t.TempDir()})
	wantError(t, err, "no such file")
	_, err = RestoreSnapshot(t.Context(), RestoreConfig{File: t.TempDir(), DataDir: t.TempDir()})
	wantError(t, err, "not a regular file")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	parent := t.TempDir()
	_, err = RestoreSnapshot(stopped, RestoreConfig{File: file, DataDir: filepath.Join(parent, "data")})
	wantError(t, err, "interrupted")
	if left := entriesOf(t, parent); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestSaveRefuses(t *testing.T) {
	s := startStored(t, filepath.Join(t.TempDir(), "data"))
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	writeTestFile(t, there, "precious")
	save := func(cfg Config, file, want string) {
		t.Helper()
		_, err := SaveSnapshot(t.Context(), cfg, SnapshotTarget{File: file})
		wantError(t, err, want)
	}
	ours := Config{DataDir: s.DataDir}
	save(ours, there, "exists already: choose another name, or give --force")
	save(ours, dir, "not a regular file")
	save(ours, filepath.Join(dir, "none", "file"), "there is no folder")

	// Keys but no server, no keys, and an etcd that does not exist.
	stopped := filepath.Join(t.TempDir(), "stopped")
	copyShared(t, s.DataDir, stopped)
	file := filepath.Join(dir, "file")
	save(Config{DataDir: stopped}, file, "no server with embedded etcd runs")
	writeTestFile(t, filepath.Join(stopped, "etcd", "etcd.sock"), "")
	save(Config{DataDir: stopped}, file, "no server with embedded etcd runs")
	save(Config{DataDir: t.TempDir()}, file, "name the data directory of a server of this cluster")
	save(Config{DataDir: stopped, EtcdServers: []string{"http://127.0.0.1:1"}}, file, "no etcd answers at http://127.0.0.1:1")
	save(Config{DataDir: stopped, EtcdServers: []string{"https://127.0.0.1:1"}, EtcdCAFile: filepath.Join(dir, "no.crt")}, file, "read the CA, certificate and key for etcd")
	wantError(t, checkSpace(dir, math.MaxInt64, "a snapshot"), "not enough space in "+dir)

	if left := entriesOf(t, dir); !slices.Equal(left, []string{"there"}) {
		t.Errorf("the folder has %q", left)
	}
	if _, err := SaveSnapshot(t.Context(), ours, SnapshotTarget{File: there, Replace: true}); err != nil {
		t.Error("with leave to replace: ", err)
	}
	if len(members(t, there)) != len(sharedNames())+2 {
		t.Error("the file was not replaced")
	}
	wantError(t, publish(file, SnapshotTarget{File: there}), "no such file")
	writeTestFile(t, file, "late")
	wantError(t, publish(file, SnapshotTarget{File: there}), "exists already")
}

// An external etcd is reached with certificates, at the first of its addresses
// that answers.
func TestSaveOverTLS(t *testing.T) {
	s := startStored(t, filepath.Join(t.TempDir(), "data"))
	keys := s.path("pki")
	err := pki.Ensure(keys, []pki.Certificate{
		{Name: "etcd", CA: pki.ClusterCA, CN: "etcd", Usage: x509.ExtKeyUsageServerAuth, SANs: loopbackNames()},
		{Name: "etcd-client", CA: pki.ClusterCA, CN: "etcd-client", Usage: x509.ExtKeyUsageClientAuth},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, _ := pki.Paths(keys, pki.ClusterCA)
	address := startForeignEtcd(t, keys, ca)
	file := filepath.Join(t.TempDir(), "file")
	cfg := Config{DataDir: s.DataDir, EtcdServers: []string{"https://127.0.0.1:1", address}, EtcdCAFile: ca}
	cfg.EtcdCertFile, cfg.EtcdKeyFile = pki.Paths(keys, "etcd-client")
	saved, err := SaveSnapshot(t.Context(), cfg, SnapshotTarget{File: file})
	if err != nil || saved.Keys != 1 {
		t.Fatalf("saved: %+v, %v", saved, err)
	}
	// etcd asks for a certificate, and gets none.
	_, err = SaveSnapshot(t.Context(), Config{DataDir: s.DataDir, EtcdServers: []string{address}, EtcdCAFile: ca}, SnapshotTarget{File: file, Replace: true})
	wantError(t, err, "no etcd answers at "+address+": check that it runs, its addresses, and its CA, certificate and key")
}

// startForeignEtcd starts an etcd with one key, which asks for certificates.
func startForeignEtcd(t *testing.T, keys, ca string) (address string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: freeAddress(t)}}
	cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = cfg.ListenClientUrls, nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 20, 200
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = ca, true
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = pki.Paths(keys, "etcd")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	if _, err := etcd.Server.Put(t.Context(), &etcdserverpb.PutRequest{Key: []byte("/registry/a"), Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	return cfg.ListenClientUrls[0].String()
}

func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// entriesOf lists a folder. One that does not exist has no entries.
func entriesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func copyShared(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range sharedNames() {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, filepath.Join(to, name), string(data))
	}
}

// members reads an archive using only tar.
func members(t *testing.T, file string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err == nil {
			all[header.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode != 0o600 {
			t.Errorf("%s has the mode %o", header.Name, header.Mode)
		}
	}
}

func archive(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := errors.Join(addMember(w, time.Now(), name, int64(len(data)), bytes.NewReader(data)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// withManifest returns the archive with another manifest.
func withManifest(t *testing.T, whole []byte, change func(*Snapshot)) []byte {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(whole))
	header, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	var info Snapshot
	if err := json.NewDecoder(r).Decode(&info); err != nil {
		t.Fatal(err)
	}
	change(&info)
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	head := archive(t, manifestName, data)
	rest := whole[512+(header.Size+511)/512*512:]
	return fmt.Append(head[:len(head)-1024], string(rest))
}
