package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/localcluster"
)

// ownKubeconfig writes a kubeconfig as a control plane does, with this CA.
func ownKubeconfig(t *testing.T, ca string) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	text := fmt.Sprintf("apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://127.0.0.1:6443\n  name: everynode\n"+
		"contexts:\n- context: {cluster: everynode, user: admin}\n  name: everynode\ncurrent-context: everynode\nkind: Config\n"+
		"users:\n- name: admin\n  user: {client-key-data: a2V5}\n", ca)
	if err := os.WriteFile(localcluster.AdminKubeconfig(dataDir), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

// A kubeconfig that somebody has written by hand, with comments.
const theirs = `# my clusters
apiVersion: v1
kind: Config
current-context: work # the one that matters
clusters:
  - name: work
    cluster:
      server: https://work.example:6443
      certificate-authority: certs/ca.crt # beside this file
contexts:
  - name: work
    context:
      cluster: work
      user: me
      namespace: team
users:
  - name: me
    user:
      exec: {apiVersion: client.authentication.k8s.io/v1, command: login, interactiveMode: Never}
preferences: {}
x-mine: kept
`

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A context is added and removed, and everything that is not ours stays the same,
// byte for byte.
func TestContextComesAndGoes(t *testing.T) {
	dir, file := ownKubeconfig(t, "b3Vycw=="), filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is in the file already
		if got, err := addContext(t.Context(), dir, "everynode", []string{file}); err != nil || got != file {
			t.Fatalf("%q, %v", got, err)
		}
	}
	c, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.CurrentContext != "everynode" || len(c.Contexts) != 2 || string(c.AuthInfos["everynode"].ClientKeyData) != "key" || c.Clusters["everynode"].Server != "https://127.0.0.1:6443" || c.Contexts["work"].Namespace != "team" {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"# my clusters", "certs/ca.crt # beside this file", "x-mine: kept"} {
		if !strings.Contains(read(t, file), want) {
			t.Errorf("%q is gone:\n%s", want, read(t, file))
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file with a key in it has mode %v, %v", info.Mode(), err)
	}
	if err := dropContext(t.Context(), dir, "everynode", []string{file, filepath.Join(dir, "none")}); err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(theirs, "current-context: work # the one that matters", `current-context: ""`, 1); read(t, file) != want {
		t.Errorf("%s\nwant\n%s", read(t, file), want)
	}
}

// A context of the same name that belongs to another cluster stays.
func TestContextOfAnotherStays(t *testing.T) {
	one, two, file := ownKubeconfig(t, "b25l"), ownKubeconfig(t, "dHdv"), filepath.Join(t.TempDir(), "sub", "config")
	if _, err := addContext(t.Context(), one, "everynode", []string{file}); err != nil {
		t.Fatal(err)
	}
	before := read(t, file)
	if err := dropContext(t.Context(), two, "everynode", []string{file}); err != nil {
		t.Fatal(err)
	}
	if read(t, file) != before {
		t.Errorf("changed:\n%s", read(t, file))
	}
}

// Of several files that KUBECONFIG names, the first that exists gets the context,
// and it is removed from all of them. Kubeconfigs of our own clusters are not the
// user's to keep.
func TestContextAmongSeveralFiles(t *testing.T) {
	own, dir := ownKubeconfig(t, "b3Vycw=="), t.TempDir()
	if err := os.Mkdir(filepath.Join(own, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	if err := os.WriteFile(b, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kubeconfig, home, want string }{
		{strings.Join([]string{localcluster.AdminKubeconfig(own), a, b, c}, ":"), dir, b},
		{a + "::" + c, dir, c},
		{localcluster.AdminKubeconfig(own), dir, ""},
		{"", dir, filepath.Join(dir, ".kube", "config")},
		{"", filepath.Join(dir, "not-there"), ""},
		{"", "", ""},
	} {
		if got := toWrite(userKubeconfigs(c.kubeconfig, c.home)); got != c.want {
			t.Errorf("KUBECONFIG=%s HOME=%s: %q, want %q", c.kubeconfig, c.home, got, c.want)
		}
	}
}

// A file that is not a kubeconfig is left as it is.
func TestContextRefusesNonsense(t *testing.T) {
	for _, text := range []string{"- a\n- b\n", "a: [", "clusters: 3\nusers: {a: b}\ncontexts: x\nkind: Config\napiVersion: v2\n"} {
		dir, file := ownKubeconfig(t, "b3Vycw=="), filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := addContext(t.Context(), dir, "everynode", []string{file}); err == nil || read(t, file) != text {
			t.Errorf("%q: %v\n%s", text, err, read(t, file))
		}
		if left, err := filepath.Glob(file + ".lock"); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
	}
}

// Several writers at once all get their contexts in, also through a symbolic
// link.
func TestContextsAtOnce(t *testing.T) {
	dir, real := ownKubeconfig(t, "b3Vycw=="), filepath.Join(t.TempDir(), "config")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(real, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	const many = 6
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if _, err := addContext(t.Context(), dir, fmt.Sprint("c", i), []string{[]string{real, link}[i%2]}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c, err := clientcmd.LoadFromFile(real)
	if err != nil || len(c.Contexts) != many {
		t.Errorf("%d contexts, %v", len(c.Contexts), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
}

// A writer that finds the lock taken waits a while, and then names the lock file.
func TestContextWaitsForTheLock(t *testing.T) {
	dir, file := ownKubeconfig(t, "b3Vycw=="), filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(*testing.T) {
		if _, err := addContext(context.Background(), dir, "everynode", []string{file}); err == nil || !strings.Contains(err.Error(), "config.lock is there for more than 5s") {
			t.Errorf("%v", err)
		}
	})
}
