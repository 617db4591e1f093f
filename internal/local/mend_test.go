package local

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// What somebody has removed from under a cluster that runs is noticed.
func TestGone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	c := &Cluster{ID: "0a1b2c", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), PodCIDR: netip.MustParsePrefix("10.42.0.0/16")}
	h := c.Host()
	const table, bridge, forwarding = "the nftables table everynode_0a1b2c", "the bridge ev0a1b2c or its route", "the kernel setting net.ipv4.ip_forward"
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		check := func(what string, want ...string) {
			t.Helper()
			if got, err := h.gone(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: gone is %q, %v; want %q", what, got, err, want)
			}
		}
		setUp := func() error {
			return errors.Join(h.firewall().ensure(), h.network().ensureBridge(), sysctl.Write(sysctl.IPForward, "1"))
		}
		change := func(what string, do func() error, want ...string) error {
			if err := errors.Join(setUp(), do()); err != nil {
				return errors.Join(errors.New(what), err)
			}
			check(what, want...)
			return nil
		}
		if err := sysctl.Write(sysctl.IPForward, "0"); err != nil {
			return err
		}
		check("a machine without a cluster", table, bridge, forwarding)
		return errors.Join(
			change("all is there", func() error { return nil }),
			change("nft flush ruleset", flush, table),
			change("nft flush chain", func() error { return flushChain(h.firewall(), "input") }, table),
			change("ip link delete", func() error { return deleteLinks(func(name string) bool { return name == c.Bridge() }) }, bridge),
			change("ip route flush", func() error { return flushRoutes(c.Bridge()) }, bridge),
			change("sysctl -w", func() error { return sysctl.Write(sysctl.IPForward, "0") }, forwarding),
			change("all is set up again", func() error { return nil }))
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Loopback = true
	if gone, err := h.Mend(t.Context()); err != nil || len(gone) != 0 {
		t.Errorf("a cluster without a network: %q, %v", gone, err)
	}
}

// flush is nft flush ruleset.
func flush() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushRuleset()
	return conn.Flush()
}

// flushChain is nft flush chain.
func flushChain(f firewall, name string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushChain(&nftables.Chain{Name: name, Table: &nftables.Table{Name: f.name, Family: nftables.TableFamilyIPv4}})
	return conn.Flush()
}

// flushRoutes deletes the routes that people have made to a link.
func flushRoutes(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	routes, err := netlink.RouteList(l, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if strings.HasPrefix(r.Dst.String(), "10.42.") {
			err = errors.Join(err, netlink.RouteDel(&r))
		}
	}
	return err
}

// The network of a cluster that runs is mended.
func TestMend(t *testing.T) {
	c := upCluster(t)
	if gone, err := c.Host().Mend(t.Context()); err != nil || len(gone) != 0 {
		t.Errorf("nothing was gone, and mended is %q, %v", gone, err)
	}
	err := errors.Join(c.Host().firewall().remove(), deleteLinks(func(name string) bool { return name == c.Bridge() }))
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := c.Host().Mend(t.Context()); err != nil || len(gone) != 2 {
		t.Errorf("mended: %q, %v", gone, err)
	}
	if gone, err := c.Host().gone(); err != nil || len(gone) != 0 {
		t.Errorf("still gone: %q, %v", gone, err)
	}
	checkTCP(t, "node to node", inNode(c, "node-1"), inNode(c, "node-2"), c.Nodes[1].Address, true)
}
