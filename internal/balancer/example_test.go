package balancer_test

import (
	"fmt"
	"net/netip"

	"everynode/internal/balancer"
)

// Services get the addresses of a range, the oldest first. A service that finds none left is told why.
func ExampleAssign() {
	of, err := balancer.ParseRange("192.0.2.200-192.0.2.201")
	if err != nil {
		fmt.Println(err)
		return
	}
	nodes := []balancer.Node{{Name: "node-1", Address: netip.MustParseAddr("10.0.0.101")}}
	services := []balancer.Service{{Key: "default/b", Created: 2}, {Key: "default/a", Created: 1}, {Key: "default/c", Created: 3}}
	for _, a := range balancer.Assign(services, nodes, of) {
		if a.Problem != "" {
			fmt.Println(a.Key, "has none:", a.Problem)
			continue
		}
		fmt.Println(a.Key, a.Address, "via", a.Via)
	}
	// Output:
	// default/a 192.0.2.200 via 10.0.0.101
	// default/b 192.0.2.201 via 10.0.0.101
	// default/c has none: all addresses of 192.0.2.200-192.0.2.201 are in use: delete a service of type LoadBalancer
}
