package sysctl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// relying returns the names of the links that may need ip_forward, which was off when the settings were saved. These
// are bridges, tunnels, ends of pairs and the like that have been made since: whoever made them has found it on. Links
// of everynode are deleted before.
func relying(saved []Setting) ([]string, error) {
	links, err := netlink.LinkList()
	for tries := 0; tries < 10 && errors.Is(err, netlink.ErrDumpInterrupted); tries++ { // links have changed meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list the links of this machine: %w", err)
	}
	var names []string
	for _, l := range links {
		name := l.Attrs().Name
		old := slices.ContainsFunc(saved, func(s Setting) bool { return s.Name == forwardingOf(name) })
		if hardware := l.Type() == "device" || l.Type() == "dummy"; !old && !hardware {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// forwardingOf is the setting that says whether a link forwards.
func forwardingOf(link string) string { return "net/ipv4/conf/" + link + "/forwarding" }
