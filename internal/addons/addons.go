// Package addons lists the software that a cluster has beside the control plane and its nodes: the name of each
// add-on, its version, and its API objects. It is data. internal/controlplane creates
// the objects, and internal/local records what is chosen.
//
// An add-on NAME is a line in [All], NAME.yaml here, and an image archive that the
// Makefile builds.
//
// A manifest is a template, and [Values] are what only the cluster knows. What the
// server does with an object depends on its kind:
//   - Roles, bindings and APIServices, and what has the annotation [AppliedKey], are
//     applied at every start.
//   - Everything else is created if it is missing. Once it exists, it is left to those
//     who run the cluster.
//   - A Deployment with the annotation [ImageKey] gets the image of this version,
//     unless somebody has chosen another.
package addons

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"strings"
	"text/template"
)

const (
	// ImageKey annotates a Deployment with the image that a server gave it. If the Deployment has another image,
	// somebody else has set that.
	ImageKey = "everynode.io/image"
	// FormerImageKey is what ImageKey was before, on Deployments of older versions.
	FormerImageKey = "everynode.dev/image"
	// AppliedKey annotates objects that the server applies at every start: nobody else should change them. Its value
	// is "true".
	AppliedKey = "everynode.io/applied"
	// NameKey labels each object with the name of its add-on. Objects that older versions
	// created keep "everynode.dev/addon".
	NameKey = "everynode.io/addon"
)

const (
	// DNS is the name of the add-on that nodes learn of when they join.
	DNS = "dns"
	// Registry is the name of the add-on that nodes pull images from.
	Registry = "registry"
)

//go:embed *.yaml
var manifests embed.FS

// Addon is software that runs in pods of the cluster.
type Addon struct {
	Name    string // what people choose it by
	Program string // the name that its makers gave it
	Version string // of its Go module
	// Repository is the image's name without the tag. One in registry.k8s.io is where its makers publish it: a node
	// that lacks our archive can pull that one. None of ours may be on Docker Hub. Otherwise each node would have a
	// mirror for it, and containerd would report an image that cannot be reached there as one that does not exist.
	Repository string
	// Archive is a file name in the runtime's folder "addons". The file is built here: the image, or the program of
	// an add-on that is OnHost.
	Archive string
	// OnHost: the add-on is a process that `everynode up` starts beside the control plane, and not pods.
	// The manifest has what the cluster must know about it.
	OnHost  bool
	Default bool // a cluster of `everynode up` has it unless the user decides otherwise
	// Machines: a cluster of `everynode server` has it by default, too. Other add-ons are off there because real
	// machines may have something better.
	Machines bool
	Use      string // what it is good for
	// Serves is the name of the service in kube-system that the API server calls, and of the Secret with the
	// service's certificate. "": there is none.
	Serves string
}

// Image returns the full name of the image, with the tag; "" for an add-on that is OnHost.
func (a Addon) Image() string {
	if a.OnHost {
		return ""
	}
	return a.Repository + ":" + a.Version
}

// OurRegistry is the prefix of the names of images that exist only here.
const OurRegistry = "everynode.local/"

// Elsewhere reports whether a node can pull the image from its makers if ours is missing.
func (a Addon) Elsewhere() bool { return !a.OnHost && !strings.HasPrefix(a.Repository, OurRegistry) }

// Values are filled in to a manifest, and so is .Image, which [Addon.Image] returns.
type Values struct {
	DNSAddress string // of the cluster's DNS
	// KubeletAuthorities are the certificates (PEM) of the CAs that sign kubelets' serving certificates.
	KubeletAuthorities string
	// Certificate is the certificate (PEM, in base64) of the service that the add-on serves.
	Certificate string
	// Registry is the host by which people and nodes reach the local registry, such as localhost:5000.
	Registry string
}

// All returns every add-on, in the order in which they are shown to people.
func All() []Addon {
	return []Addon{
		{
			Name: DNS, Program: "CoreDNS", Version: "v1.15.0", Default: true, Machines: true, Use: "names of services and pods",
			Repository: "registry.k8s.io/coredns/coredns", Archive: "coredns.tar",
		},
		{
			Name: "storage", Program: "local-path-provisioner", Version: "v0.0.30", Default: true, Use: "volumes for claims, on the nodes' disks",
			Repository: OurRegistry + "local-path-provisioner", Archive: "local-path-provisioner.tar",
		},
		{
			Name: "metrics", Program: "metrics-server", Version: "v0.9.0", Use: "kubectl top, autoscaling",
			Repository: "registry.k8s.io/metrics-server/metrics-server", Archive: "metrics-server.tar", Serves: "metrics-server",
		},
		{
			Name: "ingress", Program: "everynode-ingress", Version: "v1", Use: "Ingresses: services by host and path",
			Repository: OurRegistry + "ingress", Archive: "ingress.tar",
		},
		{
			Name: Registry, Program: "distribution", Version: "v3.1.2", Use: "images that you push from this machine", OnHost: true, Archive: "registry",
		},
	}
}

// Chosen returns the add-ons of a cluster. choice says, by name, whether the cluster has an add-on. For the add-ons
// that choice lacks, their Default decides.
func Chosen(choice map[string]bool) (chosen []Addon) {
	for _, a := range All() {
		if on, said := choice[a.Name]; on || !said && a.Default {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// OnMachines returns the choice for `everynode server`: said is what the user chose, and Machines decides about the
// other add-ons.
func OnMachines(said map[string]bool) map[string]bool {
	choice := maps.Clone(said)
	if choice == nil {
		choice = map[string]bool{}
	}
	for _, a := range All() {
		if _, ok := choice[a.Name]; !ok {
			choice[a.Name] = a.Machines
		}
	}
	return choice
}

// Names returns the names of add-ons.
func Names(list []Addon) (names []string) {
	for _, a := range list {
		names = append(names, a.Name)
	}
	return names
}

// Manifest returns the objects of the add-on as YAML documents.
func (a Addon) Manifest(v Values) ([]byte, error) {
	t, err := template.New(a.Name+".yaml").ParseFS(manifests, a.Name+".yaml")
	if err != nil {
		return nil, fmt.Errorf("parse the objects of the add-on %s: %w", a.Name, err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, struct {
		Values
		Image string
	}{v, a.Image()}); err != nil {
		return nil, fmt.Errorf("fill in the objects of the add-on %s: %w", a.Name, err)
	}
	return text.Bytes(), nil
}
