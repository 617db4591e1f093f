package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
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

// readServerAddresses reads what the servers of the cluster have published.
func readServerAddresses(ctx context.Context, client kubernetes.Interface) (serverAddresses, error) {
	list, err := client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{LabelSelector: serverPolicyLabel + "=true"})
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the servers: %w", err)
	}
	servers := serverAddresses{}
	for _, policy := range list.Items {
		servers[policy.Annotations[machineAnnotation]] = strings.Fields(policy.Annotations[addressesAnnotation])
	}
	return servers, nil
}
