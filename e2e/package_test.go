package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// onBareMachine runs in namespaces of its own. root is Debian as debootstrap leaves it, and package lies in it. The machine
// has no way out: what the nodes need is in the package.
const onBareMachine = `
mount --make-rprivate /
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -eux -c '
	for compiler in gcc cc go make; do ! command -v "$compiler"; done
	everynode version
	trap "everynode down --purge" EXIT
	everynode up --detach
	/usr/lib/everynode/kubectl wait --for=condition=Ready node/node-1 node/node-2 node/node-3 --timeout=2m
	test "$(/usr/lib/everynode/kubectl get nodes --no-headers | grep -c " Ready ")" = 3
	/usr/lib/everynode/kubectl get nodes,pods --all-namespaces
	/usr/lib/everynode/kubectl everynode audit --fail-on none
	man_pages="$(ls /usr/share/man/man1 | grep -c everynode)"
	test "$man_pages" -gt 20
	trap - EXIT
	everynode down --purge
	! ls /var/lib/everynode
'
`

// TestDebianPackage installs the packages of make dist on a Debian that has nothing else, and starts three nodes there.
func TestDebianPackage(t *testing.T) {
	if os.Getenv("EVERYNODE_LONG") == "" {
		t.Skip("it takes minutes, and needs what make dist makes: EVERYNODE_LONG=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a root file system, and real nodes in it")
	}
	root := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("mmdebstrap", "--quiet", "--variant=apt", "bookworm", root, "http://deb.debian.org/debian")
	for _, name := range []string{"everynode", "kubectl-everynode"} {
		found, err := filepath.Glob("../bin/dist/" + name + "_[0-9]*_" + runtime.GOARCH + ".deb")
		if err != nil || len(found) != 1 {
			t.Fatalf("%q in bin/dist (%v), not one package of %s: make dist ARCH=%s PLUGINS=", found, err, name, runtime.GOARCH)
		}
		run("cp", found[0], filepath.Join(root, name+".deb"))
	}
	// What apt leaves in /dev and /proc is in this namespace alone.
	run("unshare", "--mount", "chroot", root, "sh", "-exc",
		"mount -t proc proc /proc && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends /everynode.deb /kubectl-everynode.deb")
	machine := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "sh", "-eu", "-c", onBareMachine)
	machine.Env = append(os.Environ(), "root="+root)
	out, err := machine.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("on the bare machine: %v", err)
	}
}
