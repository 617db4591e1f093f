package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// onBareMachine runs in namespaces of its own. root is Debian as debootstrap leaves it, with the packages. The machine has
// no network: what the nodes need must be in the packages. A chroot would not be enough, because a node's mount namespace
// has its own root.
const onBareMachine = `
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
ip link set lo up
cd "$root"
pivot_root . mnt
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -eux -c '
	cd /
	umount --lazy /mnt
	if command -v gcc || command -v cc || command -v go || command -v make; then exit 1; fi
	everynode version
	trap "everynode down --purge" EXIT
	everynode up --detach
	/usr/lib/everynode/kubectl wait --for=condition=Ready node/node-1 node/node-2 node/node-3 --timeout=2m
	test "$(/usr/lib/everynode/kubectl get nodes --no-headers | grep -c " Ready ")" = 3
	/usr/lib/everynode/kubectl get nodes,pods --all-namespaces
	/usr/lib/everynode/kubectl everynode audit --fail-on none
	/usr/lib/everynode/kubectl apply --filename /usr/share/doc/everynode/examples/node-audit-daemonset.yaml
	/usr/lib/everynode/kubectl rollout status daemonset audit-agent --timeout=3m
	for file in man/man1/everynode-up.1.gz man/man1/kubectl-everynode-why.1.gz doc/everynode/copyright doc/kubectl-everynode/copyright \
		bash-completion/completions/everynode zsh/vendor-completions/_everynode fish/vendor_completions.d/everynode.fish \
		bash-completion/completions/everynode-ctl zsh/vendor-completions/_everynode-ctl fish/vendor_completions.d/everynode-ctl.fish; do
		test -s /usr/share/$file
	done
	for unit in server agent; do
		test -s /usr/lib/systemd/system/everynode-$unit.service
		test -s /etc/default/everynode-$unit
	done
	trap - EXIT
	everynode down --purge
	test ! -e /var/lib/everynode
'
`

// TestDebianPackage installs the packages of make dist on a bare Debian, and starts three nodes there.
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
		// debootstrap downloads packages, and the tests' own network leads nowhere.
		name, args = "nsenter", append([]string{"--net=" + os.Getenv(outsideNetwork), name}, args...)
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("mmdebstrap", "--quiet", "--variant=minbase", "--skip=cleanup/apt/lists", "bookworm", root, "http://deb.debian.org/debian")
	for _, name := range []string{"everynode", "kubectl-everynode"} {
		found, err := filepath.Glob("../bin/dist/" + name + "_[0-9]*_" + runtime.GOARCH + ".deb")
		if err != nil || len(found) != 1 {
			t.Fatalf("%q in bin/dist (%v), not one package of %s: make dist ARCH=%s PLUGINS=", found, err, name, runtime.GOARCH)
		}
		run("cp", found[0], filepath.Join(root, name+".deb"))
	}
	run("chroot", root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
		"apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "/everynode.deb", "/kubectl-everynode.deb")
	machine := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "sh", "-eu", "-c", onBareMachine)
	machine.Env = append(os.Environ(), "root="+root)
	out, err := machine.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("on the bare machine: %v", err)
	}
}
