package ingress

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Objects are what a table is made from.
type Objects struct {
	Ingresses []*networkingv1.Ingress
	// Service and Secret return an object, or nil if it does not exist.
	Service func(namespace, name string) *corev1.Service
	Secret  func(namespace, name string) *corev1.Secret
}

// Problem is a part of an Ingress that does not work. The rest of the Ingress works, and so do all other
// Ingresses.
type Problem struct {
	Ingress *networkingv1.Ingress
	Message string
}

// builder makes a table. If two Ingresses claim the same thing, the older one gets it. A host belongs to
// the namespace of its oldest Ingress, with all its paths and its certificate: what that namespace does not
// answer, no other does. So does the host "", which stands for requests to hosts that no Ingress names.
type builder struct {
	Objects
	table    *Table
	hosts    map[string]*networkingv1.Ingress // the oldest that names each
	owners   map[string]*networkingv1.Ingress // of routes, certificates and the fallback, by what they are
	problems []Problem
}

// Build makes the table of some Ingresses, and returns what is wrong with them.
func Build(of Objects) (*Table, []Problem) {
	b := &builder{
		Objects: of,
		table:   &Table{hosts: map[string][]route{}, certificates: map[string]*tls.Certificate{}, owners: map[string]string{}},
		owners:  map[string]*networkingv1.Ingress{},
		hosts:   map[string]*networkingv1.Ingress{},
	}
	byAge := slices.Clone(of.Ingresses)
	slices.SortFunc(byAge, func(x, y *networkingv1.Ingress) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	for _, in := range byAge {
		for _, host := range hostsOf(in) {
			if b.hosts[host] == nil {
				b.hosts[host] = in
			}
		}
	}
	for _, in := range byAge {
		b.add(in)
	}
	for host, in := range b.hosts {
		b.table.owners[host] = in.Namespace
		b.separate(in, host)
	}
	b.table.sort()
	return b.table, b.problems
}

// hostsOf returns the hosts that an Ingress names.
func hostsOf(in *networkingv1.Ingress) (hosts []string) {
	for _, rule := range in.Spec.Rules {
		if rule.HTTP != nil {
			hosts = append(hosts, strings.ToLower(rule.Host))
		}
	}
	for _, t := range in.Spec.TLS {
		for _, host := range t.Hosts {
			hosts = append(hosts, strings.ToLower(host))
		}
	}
	return hosts
}

// owns reports whether a host belongs to the Ingress's namespace, or to none.
func (b *builder) owns(in *networkingv1.Ingress, host string) bool {
	owner := b.hosts[host]
	return owner == nil || owner.Namespace == in.Namespace
}

// separate keeps the certificate of another namespace's wildcard away from an Ingress's host.
func (b *builder) separate(in *networkingv1.Ingress, host string) {
	of := b.owners[certificateOf(wildcard(host))]
	if _, has := b.table.certificates[host]; !has && of != nil && of.Namespace != in.Namespace {
		b.table.certificates[host] = nil
	}
}

// foreign adds the problem that a host belongs to another namespace.
func (b *builder) foreign(in *networkingv1.Ingress, host string) {
	owner := b.hosts[host]
	what := fmt.Sprintf("the host %q belongs", host)
	if host == "" {
		what = "requests for unclaimed hosts belong"
	}
	b.problem(in, "%s to the namespace %s, whose Ingress %s is older", what, owner.Namespace, owner.Name)
}

func (b *builder) add(in *networkingv1.Ingress) {
	if in.Spec.DefaultBackend != nil && b.claim(in, "the default backend") {
		target := b.target(in, *in.Spec.DefaultBackend)
		b.table.fallback, b.table.fallbackOf = &target, in.Namespace
	}
	for _, rule := range in.Spec.Rules {
		if rule.HTTP == nil {
			continue // such requests go to the fallback
		}
		host := strings.ToLower(rule.Host)
		if !b.owns(in, host) {
			b.foreign(in, host)
			continue
		}
		for _, p := range rule.HTTP.Paths {
			b.addPath(in, host, p)
		}
	}
	for _, t := range in.Spec.TLS {
		b.addCertificate(in, t)
	}
}

func (b *builder) addPath(in *networkingv1.Ingress, host string, p networkingv1.HTTPIngressPath) {
	r := route{path: p.Path, exact: p.PathType != nil && *p.PathType == networkingv1.PathTypeExact}
	kind := "Exact"
	if !r.exact {
		r.path, kind = strings.TrimSuffix(r.path, "/"), "Prefix"
	}
	if !b.claim(in, fmt.Sprintf("the path %s (%s) of the host %q", p.Path, kind, host)) {
		return
	}
	r.target = b.target(in, p.Backend)
	b.table.hosts[host] = append(b.table.hosts[host], r)
}

// certificateOf is what an Ingress claims with a certificate for a host.
func certificateOf(host string) string { return fmt.Sprintf("the certificate of the host %q", host) }

// claim gives something to an Ingress unless one has it already, and reports whether it did.
func (b *builder) claim(in *networkingv1.Ingress, what string) bool {
	owner, taken := b.owners[what]
	if !taken {
		b.owners[what] = in
		return true
	}
	if owner != in {
		b.problem(in, "%s already belongs to the Ingress %s/%s, which is older", what, owner.Namespace, owner.Name)
	}
	return false
}

func (b *builder) problem(in *networkingv1.Ingress, format string, args ...any) {
	b.problems = append(b.problems, Problem{in, fmt.Sprintf(format, args...)})
}

// target returns the address of the service that a backend names.
func (b *builder) target(in *networkingv1.Ingress, backend networkingv1.IngressBackend) Target {
	wanted := backend.Service
	if wanted == nil {
		b.problem(in, "a backend is not a service; requests can go to services only")
		return Target{}
	}
	service := b.Service(in.Namespace, wanted.Name)
	if service == nil {
		b.problem(in, "there is no service %s in the namespace %s", wanted.Name, in.Namespace)
		return Target{}
	}
	// Through a name outside the cluster (ExternalName), anybody who may create Ingresses could make this
	// proxy connect to any host.
	if ip := service.Spec.ClusterIP; service.Spec.Type == corev1.ServiceTypeExternalName || net.ParseIP(ip) == nil {
		b.problem(in, "the service %s has no address of the cluster: give it a clusterIP", wanted.Name)
		return Target{}
	}
	for _, port := range service.Spec.Ports {
		if wanted.Port.Name != "" && port.Name == wanted.Port.Name || wanted.Port.Name == "" && port.Port == wanted.Port.Number {
			return Target{Address: net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port)))}
		}
	}
	b.problem(in, "the service %s has no port %s", wanted.Name, cmp.Or(wanted.Port.Name, strconv.Itoa(int(wanted.Port.Number))))
	return Target{}
}

func (b *builder) addCertificate(in *networkingv1.Ingress, t networkingv1.IngressTLS) {
	if t.SecretName == "" {
		return // these hosts get the proxy's own certificate
	}
	secret := b.Secret(in.Namespace, t.SecretName)
	if secret == nil {
		b.problem(in, "there is no Secret %s of type %s in the namespace %s", t.SecretName, corev1.SecretTypeTLS, in.Namespace)
		return
	}
	certificate, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		b.problem(in, "the Secret %s has no certificate with its key: %v", t.SecretName, err)
		return
	}
	hosts := t.Hosts
	if len(hosts) == 0 {
		hosts = certificate.Leaf.DNSNames // hosts of others in it do not count
	}
	for _, host := range hosts {
		host = strings.ToLower(host)
		if !b.owns(in, host) {
			if len(t.Hosts) > 0 {
				b.foreign(in, host)
			}
			continue
		}
		if b.claim(in, certificateOf(host)) {
			b.table.certificates[host] = &certificate
		}
	}
}
