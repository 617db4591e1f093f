// Package ingress sends requests to services as the Ingress objects of a cluster say. [Build], a pure function, makes
// a [Table] from them; [Proxy] answers requests by the table; [Run] keeps it up to date.
//
// Requests go to the address of a service, where kube-proxy chooses the pod. The proxy itself is the standard library's.
package ingress

import (
	"cmp"
	"crypto/tls"
	"net"
	"path"
	"slices"
	"strings"
)

// Target is where requests go.
type Target struct {
	Address string // host:port of a service; "": there is no service
}

// route is a path of a host.
type route struct {
	path   string // a prefix has no slash at its end
	exact  bool
	target Target
}

// Table maps hosts and paths to targets. It does not change.
type Table struct {
	hosts        map[string][]route // by host, by "*.example.org", and by "" for all; the best first
	fallback     *Target            // for requests without a route
	certificates map[string]*tls.Certificate

	owners     map[string]string // the namespace that a host belongs to
	fallbackOf string            // the namespace of the fallback
}

// Target returns where a request goes. host may have a port. ok is false if no Ingress has this host and path.
func (t *Table) Target(host, requested string) (_ Target, ok bool) {
	name, at := hostName(host), cleaned(requested)
	owner, owned := "", false
	for _, key := range []string{name, wildcard(name), ""} {
		if of, ok := t.owners[key]; ok && !owned {
			owner, owned = of, true
		}
		if owned && t.owners[key] != owner {
			continue // what its owner leaves unanswered is not for others
		}
		for _, r := range t.hosts[key] {
			if r.matches(at) {
				return r.target, true
			}
		}
	}
	if t.fallback != nil && (!owned || t.fallbackOf == owner) {
		return *t.fallback, true
	}
	return Target{}, false
}

// Certificate returns the certificate to show for a name; nil if no Ingress has one for it. A host that has none
// and does not belong to the namespace of a wildcard's certificate is in the map, without a certificate.
func (t *Table) Certificate(name string) *tls.Certificate {
	name = hostName(name)
	if c, ok := t.certificates[name]; ok {
		return c
	}
	return t.certificates[wildcard(name)]
}

// matches reports whether the route is for a clean path. Prefixes are compared element by element.
func (r route) matches(at string) bool {
	if r.exact {
		return at == r.path
	}
	rest, ok := strings.CutPrefix(at, r.path)
	return ok && (rest == "" || rest[0] == '/')
}

// sort puts the routes of each host into the order in which they are tried: long paths first, exact ones before
// prefixes, and older ones first.
func (t *Table) sort() {
	for _, routes := range t.hosts {
		slices.SortStableFunc(routes, func(a, b route) int {
			if c := cmp.Compare(len(b.path), len(a.path)); c != 0 || a.exact == b.exact {
				return c
			}
			if a.exact {
				return -1
			}
			return 1
		})
	}
}

// hostName returns a host in the form that Ingresses use: without port and final dot, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// wildcard returns the host with a star that covers name; "*" if there is none.
func wildcard(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	if parent == "" {
		return "*"
	}
	return "*." + parent
}

// cleaned returns a path without "." and "..", so that a path of an Ingress does not lead to one that the Ingress
// does not have. A slash at the end stays.
func cleaned(at string) string {
	clean := path.Clean("/" + at)
	if strings.HasSuffix(at, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
