package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/local"
)

func testMachine(t *testing.T) (logsCommand, *localcluster.Cluster, *bytes.Buffer) {
	t.Helper()
	out, dir := &bytes.Buffer{}, t.TempDir()
	c, err := local.Create(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddNode("node-1", local.Size{}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.NodeDir("node-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := localcluster.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return logsCommand{&console.Console{Out: out, Err: out, Program: console.Everynode}, &target{c.DataDir, out}}, m, out
}

func write(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLogNames(t *testing.T) {
	_, m, _ := testMachine(t)
	for asked, want := range map[string]string{
		"": m.ServerLog(), "server": m.ServerLog(), "simulator": m.Simulator().Log(),
		"node-1": filepath.Join(m.NodeDir("node-1"), "agent.log"), "node-1 agent": filepath.Join(m.NodeDir("node-1"), "agent.log"),
		"node-1 kubelet": filepath.Join(m.NodeDir("node-1"), "kubelet.log"),
	} {
		if got, err := logOf(m.Logs(), strings.Fields(asked)); err != nil || got.Path != want {
			t.Errorf("%q: %+v, %v; want %s", asked, got, err, want)
		}
	}
	for asked, want := range map[string]string{
		"node-2": `nothing here is called "node-2"; did you mean node-1?`, "node-1 kublet": `nothing here is called "node-1 kublet"; did you mean node-1 kubelet?`,
	} {
		if _, err := logOf(m.Logs(), strings.Fields(asked)); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLogTail(t *testing.T) {
	long := strings.Repeat("a line that is long enough to need more than one block\n", 2000)
	for _, c := range []struct {
		text string
		tail int
		want string
	}{
		{"a\nb\nc\n", 0, "a\nb\nc\n"},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc", 2, "b\nc"},
		{"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\n", 9, "a\nb\nc\n"},
		{"\n\n", 1, "\n"},
		{"", 1, ""},
		{"first\n" + long, 2000, long},
	} {
		file, out := filepath.Join(t.TempDir(), "log"), &bytes.Buffer{}
		write(t, file, c.text)
		if err := showLog(t.Context(), out, localcluster.LogFile{Of: "x", Path: file}, c.tail, false); err != nil || out.String() != c.want {
			t.Errorf("%.20q, %d: %.40q, %v", c.text, c.tail, out.String(), err)
		}
	}
}

// Following continues until it is told to stop, also when the log is set aside and
// another begins.
func TestLogFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	write(t, file, "one\n")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		out, done := &bytes.Buffer{}, make(chan error, 1)
		go func() { done <- showLog(ctx, out, localcluster.LogFile{Of: "x", Path: file}, 0, true) }()
		wait := func() { <-time.After(2 * followEvery); synctest.Wait() }
		wait()
		write(t, file, "two\n")
		wait()
		if err := os.Rename(file, file+".1"); err != nil {
			t.Fatal(err)
		}
		wait()
		write(t, file, "three\n")
		wait()
		if err := os.Truncate(file, 0); err != nil { // as a process does whose log has grown long
			t.Fatal(err)
		}
		wait()
		write(t, file, "four\n")
		wait()
		stop()
		if err := <-done; err != nil || out.String() != "one\ntwo\nthree\nfour\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

func TestLogThatIsNotThere(t *testing.T) {
	err := showLog(t.Context(), io.Discard, localcluster.LogFile{Of: "simulator", Path: filepath.Join(t.TempDir(), "none")}, 0, false)
	if err == nil || !strings.HasPrefix(err.Error(), "simulator has logged nothing yet") {
		t.Errorf("%v", err)
	}
}

// An export has every log, and nothing that gives access to a cluster: nothing from
// the data directory, and nothing in a log that looks like a key or a token.
func TestLogExport(t *testing.T) {
	cmd, m, _ := testMachine(t)
	const token, jwt, bearer, key = "abcdef.0123456789abcdef", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVz.c2ln", "Authorization: Bearer c2VjcmV0c2VjcmV0", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----"
	write(t, m.ServerLog(), "serves\n"+token+"\n"+jwt+"\n"+bearer+"\n"+key+"\nends\n")
	write(t, filepath.Join(m.NodeDir("node-1"), "kubelet.log"), "kubelet works\n")
	write(t, filepath.Join(m.NodeDir("node-1"), "kubelet.log.1"), "kubelet worked\n")
	write(t, filepath.Join(m.DataDir, "join-token"), "in-a-file\n")
	write(t, localcluster.AdminKubeconfig(m.DataDir), "in-a-kubeconfig\n")
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	if err := cmd.export(t.Context(), m, file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	members := untar(t, file)
	for name, want := range map[string]string{
		"everynode-logs/logs/server.log": "serves\n", "everynode-logs/logs/node-1-kubelet.log": "kubelet works\n", "everynode-logs/logs/node-1-kubelet.1.log": "kubelet worked\n",
		"everynode-logs/status.json": `"running": false`, "everynode-logs/version.json": `"kubernetes"`, "everynode-logs/missing.txt": "nodes, pods, DaemonSets and events: ",
	} {
		if !strings.Contains(members[name], want) {
			t.Errorf("%s: %q, want %q in it", name, members[name], want)
		}
	}
	for name, text := range members {
		for _, secret := range []string{token, jwt, "c2VjcmV0", "MHcCAQ", "in-a-file", "in-a-kubeconfig"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s in it", name, secret)
			}
		}
	}
	if !strings.HasSuffix(members["everynode-logs/logs/server.log"], "\nends\n") {
		t.Errorf("what comes after a secret is gone: %q", members["everynode-logs/logs/server.log"])
	}
	// An existing file is not overwritten, and nothing is left behind when the
	// folder is missing.
	if err := cmd.export(t.Context(), m, file); err == nil {
		t.Error("an export was written over")
	}
	if err := cmd.export(t.Context(), m, filepath.Join(t.TempDir(), "none", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]string{}
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		members[head.Name] = string(data)
	}
}
