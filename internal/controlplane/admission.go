package controlplane

import (
	_ "embed"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"everynode/internal/controlplane/admission"
)

//go:embed admission.yaml
var admissionManifest []byte

// admissionPolicies returns the policies on what nodes may not decide for others,
// filled in with the ranges of this cluster and the addresses of this server.
func (b bootstrap) admissionPolicies() ([]*unstructured.Unstructured, error) {
	addresses, err := b.settings.ids().ownAddresses()
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("$(podCIDR)", b.settings.podRange.String(), "$(serviceCIDR)", b.settings.serviceRange.String(),
		"$(machine)", machineName(), "$(addresses)", strings.Join(addresses, " "),
		"$(servingSeconds)", strconv.Itoa(int(admission.ServingFor/time.Second))).Replace(string(admissionManifest))
	return decodeManifest([]byte(text))
}

// ownAddresses returns the addresses and names, in lower case, at which others reach
// this server and no other machine.
func (i identities) ownAddresses() ([]string, error) {
	names, err := i.servingNames()
	if err != nil {
		return nil, err
	}
	var own []string
	for _, ip := range names.IPs {
		if addr, ok := netip.AddrFromSlice(ip); ok && !addr.IsLoopback() && addr != i.serviceIP {
			own = append(own, addr.String())
		}
	}
	for _, name := range names.DNSNames {
		if first, _, _ := strings.Cut(name, "."); first != "kubernetes" && first != "localhost" && len(validation.IsDNS1123Subdomain(strings.ToLower(name))) == 0 {
			own = append(own, strings.ToLower(name))
		}
	}
	slices.Sort(own)
	return slices.Compact(own), nil
}

// machineName returns the name that a node on this machine has by default.
func machineName() string {
	name, err := os.Hostname()
	if name = strings.ToLower(name); err != nil || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "server"
	}
	return name
}
