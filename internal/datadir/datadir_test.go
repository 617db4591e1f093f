package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fill writes files (or, with a slash at the end, makes folders) below dir.
func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		folder := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			folder = path
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if folder == path {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestCheckPlace(t *testing.T) {
	for dir, want := range map[string]string{
		"/": "a system directory", "/etc": "a system directory", "/var": "a system directory", "/var/lib": "a system directory", "/tmp": "a system directory", "/usr": "a system directory",
		"/usr/local": "a system directory", "/run": "a system directory", "/srv": "a system directory", "/mnt": "a system directory", "/root": "a system directory", "/home": "a system directory", "/dev": "a system directory",
		"/proc/1": "other programs", "/sys/fs/cgroup/x": "other programs", "/var/log/everynode": "other programs", "/var/lib/kubelet": "other programs",
		"/var/lib/etcd/default": "other programs", "/etc/kubernetes": "other programs", "/run/everynode/abc": "other programs", "/run/netns/x": "other programs",
		"/home" + "/ada": "home directory of ada",
		// These are allowed.
		"/var/lib/everynode": "", "/var/lib/everynode-agent": "", "/srv/a": "", "/var/logs": "", "/home" + "/ada/cluster": "", "/tmp/x": "", "/var/lib/etcd2": "",
	} {
		t.Run(dir, func(t *testing.T) { wantError(t, checkPlace(dir), want) })
	}
}

func TestClaim(t *testing.T) {
	const record, version = `{"version":1,"id":"abcdef"}`, `{"format":1,"serviceCIDR":"10.96.0.0/16","podCIDR":"10.42.0.0/16"}`
	agent := map[string]string{"agent.lock": "7", "kubelet.yaml": "", "kube-proxy.yaml": "", "pki/ca.crt": ""}
	for _, test := range []struct {
		name  string
		there map[string]string
		kind  Kind
		want  string
	}{
		{"a new disk", map[string]string{"lost+found/": ""}, Server, ""},
		{"a project", map[string]string{"main.go": "", "images/holiday.jpg": ""}, Up, "contains images, main.go, which everynode did not make"},
		{"names as ours, with other things in them", map[string]string{"images/holiday.jpg": "", "nodes/notes.txt": "", "etcd/member/snap/db": "", "pki/tls/x.crt": "", "version": "1.2"}, Up, "did not make"},
		{"kubeadm's machine", map[string]string{"etcd/member/wal/0": "", "kubelet/config.yaml": ""}, Server, "did not make"},
		{"another tool's locks", map[string]string{"db.lock": ""}, Server, "did not make"},
		{"an agent at a server's", map[string]string{"version": version, "pki/ca.key": ""}, Agent, "is the data directory of an everynode server"},
		{"an agent at a local cluster's", map[string]string{"cluster.json": record}, Agent, "is the data directory of a cluster of `everynode up`"},
		{"a server at an agent's", agent, Server, "is the data directory of an everynode agent"},
		{"up at an agent's", agent, Up, "is the data directory of an everynode agent"},
		// Directories of earlier releases.
		{"a server of before", map[string]string{"version": version, "etcd/data/member/snap/db": "", "etcd.old/": ""}, Server, ""},
		{"a local cluster of before", map[string]string{"cluster.json": record, "nodes/node-1/machine-id": ""}, Up, ""},
		{"the server of a local cluster of before", map[string]string{"cluster.json": record}, Server, ""},
		{"up at a server's of before", map[string]string{"version": version}, Up, "is the data directory of an everynode server"},
		{"an agent of before", agent, Agent, ""},
		{"a local node of before", map[string]string{"machine-id": "1", "hostname": "n", "run-containerd/": ""}, Agent, ""},
		{"a server of before that failed at once", map[string]string{"server.lock": "7"}, Server, ""},
		{"an agent of before that failed at once", map[string]string{"agent.lock": "7", "containerd/": ""}, Agent, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, test.there)
			before := listing(t, dir)
			_, err := Claim(dir, test.kind)
			wantError(t, err, test.want)
			if test.want != "" {
				if after := listing(t, dir); after != before {
					t.Errorf("a refused directory has changed from\n%sto\n%s", before, after)
				}
				return
			}
			for range 2 { // the mark is valid, and both directories stay everynode's
				if _, err := Claim(dir, test.kind); err != nil {
					t.Error("with the mark:", err)
				}
			}
			other := Agent
			if test.kind == Agent {
				other = Server
			}
			_, err = Claim(dir, other)
			wantError(t, err, "is the data directory of")
		})
	}
}

// listing returns names and modes of everything below dir, including dir.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		b.WriteString(info.Mode().String() + " " + path + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestClaimKeepsModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "given")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Claim(dir, Server)
	if err != nil || d.Made() {
		t.Fatalf("an empty directory of ours: %v, made %v", err, d.Made())
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("its mode became %v (%v)", st.Mode(), err)
	}
	for _, mode := range []fs.FileMode{0o777 | fs.ModeSticky, 0o775, 0o702} {
		shared := filepath.Join(t.TempDir(), "shared")
		if err := errors.Join(os.Mkdir(shared, 0o700), os.Chmod(shared, mode)); err != nil {
			t.Fatal(err)
		}
		_, err := Claim(shared, Server)
		wantError(t, err, "can be written by others")
		if st, err := os.Stat(shared); err != nil || st.Mode()&^fs.ModeDir != mode {
			t.Errorf("the mode %v became %v (%v)", mode, st.Mode(), err)
		}
	}
	made, err := Claim(filepath.Join(t.TempDir(), "a", "b"), Server)
	if err != nil || !made.Made() {
		t.Fatalf("a missing directory: %v", err)
	}
	if st, err := os.Stat(made.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("a directory of ours has the mode %v (%v)", st.Mode(), err)
	}
}

func TestClaimOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	_, err := Claim(dir, Up)
	wantError(t, err, "belongs to user 1234")
	wantError(t, err, "chown 0 "+dir)
}

// A link is followed once, and the check is about its target.
func TestClaimLink(t *testing.T) {
	dir := t.TempDir()
	real, link, system := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "system")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link), os.Symlink("/etc", system)); err != nil {
		t.Fatal(err)
	}
	if d, err := Claim(link, Server); err != nil || d.Path != real {
		t.Errorf("by a link: %+v, %v", d, err)
	}
	_, err := Claim(system, Server)
	wantError(t, err, "/etc is a system directory")
	// A mark that is a link proves nothing.
	forged := t.TempDir()
	if err := os.Symlink(filepath.Join(real, MarkName), filepath.Join(forged, MarkName)); err != nil {
		t.Fatal(err)
	}
	_, err = Claim(forged, Server)
	wantError(t, err, "not a regular file")
}

// A link to a disk that is not mounted stays, and nothing is made in place of what is there.
func TestClaimDanglingLink(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "data"), filepath.Join(dir, "disk", "everynode")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	want := link + " is a link to " + target + ", which is missing: mount the disk that has it"
	before := listing(t, dir)
	for range 2 { // as a service that is restarted
		for _, data := range []string{link, filepath.Join(link, "below", "it")} {
			_, err := Claim(data, Server)
			wantError(t, err, want)
		}
	}
	if after := listing(t, dir); after != before {
		t.Errorf("what was\n%sis\n%s", before, after)
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err := Claim(link, Server); err != nil || d.Path != target {
		t.Errorf("once it is mounted: %+v, %v", d, err)
	}
}

func TestClaimInsideAnother(t *testing.T) {
	outer, err := Claim(filepath.Join(t.TempDir(), "outer"), Up)
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(outer.Path, "nodes", "node-1")
	_, err = Claim(inner, Agent)
	wantError(t, err, "is inside "+outer.Path+", the data directory of a cluster")
	if _, err := os.Stat(filepath.Dir(inner)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused directory was left behind:", err)
	}
	if _, err := ClaimWithin(inner, Agent); err != nil {
		t.Error("a local node:", err)
	}
	if _, err := Claim(inner, Agent); err != nil {
		t.Error("its agent:", err)
	}
}

func TestUndo(t *testing.T) {
	root := t.TempDir()
	d, err := Claim(filepath.Join(root, "a", "b"), Server)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Undo(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// What has taken the place of a directory stays.
	if d, err = Claim(filepath.Join(root, "l"), Server); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(root, "moved")
	if err := errors.Join(os.Rename(d.Path, moved), os.Symlink(moved, d.Path), d.Undo()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(d.Path); err != nil {
		t.Error("a link was removed:", err)
	}
	first, err := Claim(filepath.Join(root, "c"), Server)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Claim(first.Path, Server)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(first.Path); err != nil {
		t.Error("who has made nothing took something back:", err)
	}
}

func TestStore(t *testing.T) {
	d, err := Claim(filepath.Join(t.TempDir(), "d"), Server)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetStore(StoreMade); err != nil {
		t.Fatal(err)
	}
	found, err := Find(d.Path)
	if err != nil || found.Store() != StoreMade || found.Kind() != Server || !found.Made() {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestMarkIsRead(t *testing.T) {
	for content, want := range map[string]string{
		"nonsense": "not what everynode writes there", `{"format":0}`: "not what everynode", `{"format":1,"kind":"else"}`: "not what everynode",
		`{"format":2,"kind":"new"}`: "written by a newer everynode",
	} {
		dir := t.TempDir()
		fill(t, dir, map[string]string{MarkName: content})
		_, err := Claim(dir, Server)
		wantError(t, err, want)
	}
}

// tmpfs mounts a disk of its own, or skips.
func tmpfs(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("everynode-test", dir, "tmpfs", flags, options); err != nil {
		t.Skip("mounting does not work here:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
}

func TestClaimOnFullAndReadOnlyDisks(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	tmpfs(t, full, 0, "size=16k,mode=0755")
	if err := os.WriteFile(filepath.Join(full, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal("the disk is not full:", err)
	}
	_, err := Claim(filepath.Join(full, "data"), Server)
	wantError(t, err, "the disk is full: free some space")
	if _, err := os.Stat(filepath.Join(full, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("left on the full disk:", err)
	}
	locked := filepath.Join(t.TempDir(), "locked")
	tmpfs(t, locked, unix.MS_RDONLY, "mode=0755")
	for _, dir := range []string{locked, filepath.Join(locked, "data")} {
		_, err := Claim(dir, Server)
		wantError(t, err, "the disk is read-only: mount it for writing")
	}
}
