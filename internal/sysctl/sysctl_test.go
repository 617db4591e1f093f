package sysctl

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inPrivateNet runs fn where the settings of the network are its own.
func inPrivateNet(t *testing.T, fn func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRestore(t *testing.T) {
	const ttl, loop = "net/ipv4/ip_default_ttl", "net/ipv4/conf/lo/forwarding"
	inPrivateNet(t, func() error {
		set := func(name, value string) {
			t.Helper()
			if err := Write(name, value); err != nil {
				t.Error(err)
			}
		}
		check := func(what, name, want string) {
			t.Helper()
			if got, err := Read(name); err != nil || got != want {
				t.Errorf("%s: %s is %q, %v; want %q", what, name, got, err, want)
			}
		}
		set(IPForward, "0")
		set(loop, "1") // one link forwards although the machine does not
		settings := []Setting{{Name: ttl, Was: "64", Ours: "99"}, {Name: IPForward, Was: "0", Ours: "1"},
			{Name: loop, Was: "1"}, {Name: "net/ipv4/conf/gone/forwarding", Was: "1"}}
		set(ttl, "99")
		set(IPForward, "1")
		if warning, err := Restore(settings); err != nil || warning != "" {
			return fmt.Errorf("%q, %w", warning, err)
		}
		check("restored", ttl, "64")
		check("restored", IPForward, "0")
		check("restored with ip_forward", loop, "1")

		set(ttl, "77")
		set(loop, "0")
		if warning, err := Restore(settings); err != nil || warning != "" {
			return fmt.Errorf("%q, %w", warning, err)
		}
		check("changed by someone else", ttl, "77")
		check("ip_forward was not ours to restore", loop, "0")
		return nil
	})
}

// Links that others have made while ip_forward was on keep it on. Those from before have worked without it.
func TestRestoreForOthers(t *testing.T) {
	inPrivateNet(t, func() error {
		add := func(link netlink.Link, name string) {
			t.Helper()
			*link.Attrs() = netlink.NewLinkAttrs()
			link.Attrs().Name = name
			if err := netlink.LinkAdd(link); err != nil {
				t.Errorf("add the link %s: %v", name, err)
			}
		}
		check := func(what, forwarding, warning string) {
			t.Helper()
			said, err := Restore([]Setting{{Name: IPForward, Was: "0", Ours: "1"}, {Name: forwardingOf("tap0"), Was: "0"}})
			if err != nil {
				t.Error(err)
			}
			if now, err := Read(IPForward); err != nil || now != forwarding {
				t.Errorf("%s: ip_forward is %s, %v; want %s", what, now, err, forwarding)
			}
			if (said == "") != (warning == "") || !strings.Contains(said, warning) {
				t.Errorf("%s: said %q, want %q", what, said, warning)
			}
		}
		if err := Write(IPForward, "0"); err != nil {
			return err
		}
		add(&netlink.Bridge{}, "tap0")
		if err := Write(IPForward, "1"); err != nil {
			return err
		}
		check("nothing was added", "0", "")
		if err := Write(IPForward, "1"); err != nil {
			return err
		}
		add(&netlink.Veth{PeerName: "peer7"}, "veth7")
		add(&netlink.Bridge{}, "docker0")
		check("others have come", "1", "ip_forward was off and stays on, because others may need it by now (docker0, peer7, veth7); if not: sysctl -w net.ipv4.ip_forward=0")
		return nil
	})
}

func TestSave(t *testing.T) {
	inPrivateNet(t, func() error {
		saved, err := Save([]Setting{{Name: "net/ipv4/ip_default_ttl", Ours: "99"}, {Name: "net/ipv4/there_is_none", Ours: "1"}})
		if err != nil {
			return err
		}
		if first := (Setting{Name: "net/ipv4/ip_default_ttl", Was: "64", Ours: "99"}); saved[0] != first {
			t.Errorf("saved %v, want %v first", saved[0], first)
		}
		for name, want := range map[string]bool{"net/ipv4/there_is_none": false, "net/ipv4/conf/lo/forwarding": true, "net/ipv4/conf/all/forwarding": false} {
			if got := slices.ContainsFunc(saved, func(s Setting) bool { return s.Name == name }); got != want {
				t.Errorf("%s is saved: %v, want %v", name, got, want)
			}
		}
		return nil
	})
}
