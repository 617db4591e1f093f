package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Neither the machine nor another node sees what a node writes below its own directories, and it is deleted with the
// node.
func TestPrivateDirectories(t *testing.T) {
	c := upCluster(t)
	const name = "everynode-test-agent"
	for _, dir := range []string{"/var/lib", "/opt", "/run", "/etc/kubernetes"} {
		agent := filepath.Join(dir, name)
		run(t, c, "node-1", "sh", "-c", "mkdir "+agent+" && echo mine > "+agent+"/state")
		if _, err := os.Stat(agent); err == nil {
			t.Errorf("%s is on the machine", agent)
		}
		if got := run(t, c, "node-2", "ls", dir); strings.Contains(got, name) {
			t.Errorf("node-2 sees %s", agent)
		}
	}
	if machine, node := readAll(t, "/var/lib/dpkg/status"), run(t, c, "node-1", "cat", "/var/lib/dpkg/status"); strings.TrimSpace(machine) != node {
		t.Error("the node does not see what the machine has in /var/lib")
	}
	if got := strings.Fields(run(t, c, "node-1", "ls", "/sys/class/net")); !slices.Contains(got, nodeLink) || slices.Contains(got, c.Bridge()) {
		t.Errorf("/sys shows the interfaces %v, want the node's", got)
	}
	if a, b := readAll(t, "/proc/mounts"), run(t, c, "node-1", "cat", "/proc/mounts"); strings.Count(a, " /sys/fs/cgroup") != strings.Count(b, " /sys/fs/cgroup") {
		t.Errorf("the node's cgroups are not mounted as the machine's:\n%s\n%s", a, b)
	}
	if err := c.Host().EnsureNode(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, c, "node-1", "cat", "/var/lib/"+name+"/state"); got != "mine" {
		t.Errorf("the second EnsureNode left %q", got)
	}
	if err := killInit(c, "node-1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Host().namespaces(Node{Name: "node-1"}).release(); err != nil {
		t.Fatal(err)
	}
	if err := c.Host().EnsureNode(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, c, "node-1", "cat", "/var/lib/"+name+"/state"); got != "mine" {
		t.Errorf("a node that was made again has %q", got)
	}
}

// Without overlays, a node sees what the machine has, and what it adds is its own.
func TestPrivateWithoutOverlay(t *testing.T) {
	needMachine(t)
	root := t.TempDir()
	there := filepath.Join(root, "there")
	for _, dir := range []string{filepath.Join(there, "old"), filepath.Join(root, "own", "upper")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(there, "file"), []byte("machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(there, "link")); err != nil {
		t.Fatal(err)
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := isolateMounts(); err != nil {
			return err
		}
		p := privateDir{path: there, below: filepath.Join(root, "own")}
		if err := p.mountFolder(); err != nil {
			return err
		}
		if raw, err := os.ReadFile(filepath.Join(there, "link")); err != nil || string(raw) != "machine" {
			t.Errorf("a link to a file of the machine reads %q, %v", raw, err)
		}
		return os.Mkdir(filepath.Join(there, "new"), 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(there, "new")); err == nil {
		t.Error("what the node made is on the machine")
	}
	if _, err := os.Stat(filepath.Join(root, "own", "upper", "new")); err != nil {
		t.Errorf("what the node made is not its own: %v", err)
	}
}
