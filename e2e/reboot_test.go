package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reboot does to the cluster what a power failure and a start of the machine do: no
// process is left, nor anything else that only the kernel and /run had. Only the disk
// stays as it was.
func reboot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: reboot")
	}
	c := clusterOf(ts)
	ts.Check(c.killEverything())
	now, err := c.traces()
	ts.Check(err)
	var errs []error
	for _, kind := range []string{"mount", "link", "nft table", "cgroup", "path"} {
		for _, name := range slices.Backward(now.names[kind]) {
			if slices.Contains(c.before.names[kind], name) {
				continue
			}
			if err := takeAway(kind, name); err != nil {
				errs = append(errs, fmt.Errorf("take the %s %s away: %w", kind, name, err))
			}
		}
	}
	ts.Check(errors.Join(append(errs, c.restoreSysctls())...))
}

func takeAway(kind, name string) error {
	switch kind {
	case "mount":
		point, _, _ := strings.Cut(name, " ")
		return unix.Unmount(point, unix.MNT_DETACH)
	case "link":
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkDel(l)
		}
		if errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV) {
			return nil // it was removed with its peer
		}
		return err
	case "nft table":
		out, err := exec.Command("nft", append([]string{"delete"}, strings.Fields(name)...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	case "cgroup":
		return emptyCgroup(name)
	case "path":
		if strings.HasPrefix(name, "/run/") {
			return os.RemoveAll(name)
		}
		return nil // on the disk
	default:
		return fmt.Errorf("what is a %s?", kind)
	}
}
