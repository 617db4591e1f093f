package admission

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Each server has a policy, which has this label. Its annotations name the server's
// machine and addresses.
const (
	serverPolicyLabel   = "everynode.io/server"
	machineAnnotation   = "everynode.io/machine"
	addressesAnnotation = "everynode.io/addresses"
)

// serverAddresses maps each server's machine to its addresses and names.
type serverAddresses map[string][]string

// ownerOf returns the machine of the server that has an address; "" if no server has it.
func (s serverAddresses) ownerOf(address string) string {
	for machine, addresses := range s {
		if slices.Contains(addresses, strings.ToLower(address)) {
			return machine
		}
	}
	return ""
}

// serverAddresses returns what the servers of the cluster have published.
func (c *nodeController) serverAddresses() (serverAddresses, error) {
	list, err := c.policies.List(labels.SelectorFromSet(labels.Set{serverPolicyLabel: "true"}))
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the servers: %w", err)
	}
	servers := serverAddresses{}
	for _, policy := range list {
		servers[policy.Annotations[machineAnnotation]] = strings.Fields(policy.Annotations[addressesAnnotation])
	}
	return servers, nil
}
