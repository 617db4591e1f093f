package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"everynode/internal/addons"
	"everynode/internal/balancer"
	"everynode/internal/datadir"
)

const (
	defaultListen      = "127.0.0.1:6443"
	defaultServiceCIDR = "10.96.0.0/16"
	defaultPodCIDR     = "10.42.0.0/16"
)

// Config says where a control plane keeps its data, where it listens and
// which address ranges it hands out. Only DataDir is required.
type Config struct {
	// DataDir is the directory of pki/, etcd/ and admin.kubeconfig. It is created,
	// with mode 0700, if it is missing.
	DataDir string
	// Listen is the host:port of the API server; default 127.0.0.1:6443.
	Listen string
	// AdvertiseAddress is the IP address at which nodes reach the API server;
	// default: the host of Listen, or this machine's address on its default
	// route when that is 0.0.0.0 or ::.
	AdvertiseAddress string
	// SANs are further DNS names and IP addresses of the serving certificate.
	SANs []string

	// EtcdServers are the URLs of an existing etcd. When empty,
	// an embedded single member keeps its data in DataDir/etcd.
	EtcdServers []string
	// EtcdCAFile, EtcdCertFile and EtcdKeyFile are for EtcdServers with TLS.
	EtcdCAFile, EtcdCertFile, EtcdKeyFile string

	// ServiceCIDR is the range of service addresses; default 10.96.0.0/16.
	ServiceCIDR string
	// PodCIDR is the range of pod addresses. Each node gets a part of it
	// (a /24 for IPv4); default 10.42.0.0/16.
	PodCIDR string
	// NodeCIDR is the range of the nodes' own addresses if they are on a
	// bridge of this host. Routes inside it, and routes into PodCIDR over the
	// same device, are the cluster's own. Empty: not on this host.
	NodeCIDR string
	// Addons are created in the cluster. Other add-ons that it has stay.
	Addons []addons.Addon
	// HostPathPolicy says what happens to pods that could do harm through hostPath
	// volumes: HostPathsWarn, HostPathsReadOnly, HostPathsOff; empty leaves the
	// cluster as it is.
	HostPathPolicy string

	// Audit keeps a log of requests to the API server, in DataDir/audit.
	// AuditPolicyFile is a policy of audit.k8s.io/v1 that says what is recorded; default:
	// metadata of all that people and nodes change, and of secrets that they read.
	Audit           bool
	AuditPolicyFile string

	// EncryptSecrets makes a cluster that was created without encryption encrypt Secrets in
	// etcd from now on. New clusters always encrypt them.
	EncryptSecrets bool

	// Snapshots are saved by the server itself, while it runs.
	Snapshots SnapshotSchedule

	// PodSecurity is the Pod Security Standard that pods must meet in namespaces that
	// have no label for it: PodsPrivileged, PodsBaseline, PodsRestricted; empty: what
	// AdmissionFile says, else PodsBaseline. kube-system is exempt.
	PodSecurity string
	// AdmissionFile is kube-apiserver's configuration of admission plugins, of the kind
	// AdmissionConfiguration. A plugin that it names is on.
	AdmissionFile string
	// AllowExternalIPs lets whoever may create a Service redirect to it, on all nodes, the traffic
	// to any addresses, even the API server's.
	AllowExternalIPs bool
	// AuthenticationFile is kube-apiserver's AuthenticationConfiguration: OIDC and the
	// like, and which anonymous requests are let in. Default: health checks, and what a
	// joining machine reads.
	AuthenticationFile string

	// Simulator creates the identity of the program that plays the kubelets of simulated
	// nodes. Without it, that identity loses its rights.
	Simulator bool

	// LoadBalancers is the range of addresses, FIRST-LAST, that services of type
	// LoadBalancer get, with routes on this machine; empty: they get none. It
	// requires a single server.
	LoadBalancers string
	// Publish are ports of this machine that lead to such services,
	// [ADDRESS:]PORT:SERVICEPORT.
	Publish []string

	// DaemonSets runs the DaemonSet engine until ctx ends. cfg is the identity
	// system:everynode-controller, with the rights an engine needs and no
	// others. Nil: no engine.
	DaemonSets func(ctx context.Context, cfg *rest.Config) error
	// Progress, when set, is called after each step with the time that it took,
	// from one goroutine at a time.
	Progress func(step string, took time.Duration)
}

// settings is a Config with its defaults filled in and its text parsed.
type settings struct {
	Config
	endpoint
	serviceRange  netip.Prefix
	podRange      netip.Prefix
	nodeRange     netip.Prefix   // zero: none on this host
	balancers     balancer.Range // zero: none
	publications  []balancer.Publication
	embeddedStore bool
	audit         auditing
	snapshots     *snapshots // nil: the server saves none by itself
	admission     admissionConfig
	// encryptSecrets is known only once the server has looked at the cluster.
	encryptSecrets bool
	// keyringFirst: the keys of Secrets must be read from etcd before the API server is
	// configured. Otherwise they are those of a new cluster, and the start need not wait for etcd.
	keyringFirst bool
	// pkiLock is held while files below pki/ are changed.
	pkiLock *sync.Mutex
	// secretsKeys are the keys that the API server has or will have; nil: those of a new cluster.
	secretsKeys []secretsKey
}

// endpoint is where an API server listens, and where others reach it.
type endpoint struct {
	listen    netip.AddrPort
	advertise netip.Addr
}

// resolve fills in the defaults and parses what is text. On the host it looks only
// at the files that are named and, if it must, at the default route.
func (c Config) resolve() (*settings, error) {
	if c.DataDir == "" {
		return nil, errors.New("no data directory was given: name one, for example /var/lib/everynode")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("resolve the data directory %q: %w", c.DataDir, err)
	}
	c.DataDir = dir
	if err := CheckHostPathPolicy(c.HostPathPolicy); err != nil {
		return nil, err
	}
	s := &settings{Config: c, embeddedStore: len(c.EtcdServers) == 0, pkiLock: &sync.Mutex{}}
	if s.listen, err = parseListen(orDefault(c.Listen, defaultListen)); err != nil {
		return nil, err
	}
	if s.advertise, err = parseAdvertise(c.AdvertiseAddress, s.listen.Addr()); err != nil {
		return nil, err
	}
	if s.serviceRange, err = parseRange("service range", orDefault(c.ServiceCIDR, defaultServiceCIDR)); err != nil {
		return nil, err
	}
	if s.podRange, err = parseRange("pod range", orDefault(c.PodCIDR, defaultPodCIDR)); err != nil {
		return nil, err
	}
	if c.NodeCIDR != "" {
		if s.nodeRange, err = parseRange("node range", c.NodeCIDR); err != nil {
			return nil, err
		}
	}
	if s.audit, err = readAuditing(s.data(), c.Audit, c.AuditPolicyFile); err != nil {
		return nil, err
	}
	if s.snapshots, err = s.resolveSnapshots(); err != nil {
		return nil, err
	}
	if err := checkEtcdURLs(c.EtcdServers); err != nil {
		return nil, err
	}
	if c.EtcdKeyFile != "" {
		if err := datadir.CheckSecret(c.EtcdKeyFile); err != nil {
			return nil, fmt.Errorf("--etcd-keyfile: %w", err)
		}
	}
	if s.admission, err = readAdmission(c.PodSecurity, c.AdmissionFile); err != nil {
		return nil, err
	}
	s.AuthenticationFile, err = readAuthentication(c.AuthenticationFile)
	return s, errors.Join(err, s.resolveBalancers(), checkDNS(c.Addons, s.serviceRange))
}

// resolveBalancers parses the addresses and ports of services of type LoadBalancer.
func (s *settings) resolveBalancers() (err error) {
	switch {
	case s.LoadBalancers == "" && len(s.Publish) > 0:
		return errors.New("--publish forwards to services of type LoadBalancer, which have no addresses here: also set --load-balancer-range")
	case s.LoadBalancers == "":
		return nil
	case !s.embeddedStore:
		return errors.New("addresses for load balancers lead to one machine, but with --etcd-servers there may be several: leave them out, and install MetalLB or something similar")
	}
	if s.balancers, err = balancer.ParseRange(s.LoadBalancers); err != nil {
		return fmt.Errorf("the addresses of load balancers: %w", err)
	}
	for _, text := range s.Publish {
		p, err := balancer.ParsePublication(text)
		if err != nil {
			return err
		}
		s.publications = append(s.publications, p)
	}
	return nil
}

// checkEtcdURLs refuses URLs with which all that the cluster stores, including tokens and
// keys, would cross a network unencrypted.
func checkEtcdURLs(urls []string) error {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" {
			continue // the client that connects later reports what is not a URL
		}
		addr, err := netip.ParseAddr(u.Hostname())
		if local := u.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback(); !local {
			return fmt.Errorf("--etcd-servers %s: everything that the cluster stores would cross the network unencrypted, and anyone who reaches that port owns the cluster: "+
				"make etcd serve TLS and require certificates, and give https:// with --etcd-cafile, --etcd-certfile and --etcd-keyfile", text)
		}
	}
	return nil
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func parseListen(text string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return ap, fmt.Errorf("the listen address %q is not IP:PORT (such as %s): %w", text, defaultListen, err)
	}
	if ap.Port() == 0 {
		return ap, fmt.Errorf("the listen address %q has no port: choose one, such as 6443, because nodes must be able to find it again", text)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// parseAdvertise returns the address that nodes use. listen stands in for an
// empty text, and the host's own address for an unspecified listen.
func parseAdvertise(text string, listen netip.Addr) (netip.Addr, error) {
	if text != "" {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsUnspecified() {
			return addr, fmt.Errorf("the advertise address %q is not an IP address that nodes can connect to", text)
		}
		return addr.Unmap(), nil
	}
	if !listen.IsUnspecified() {
		return listen, nil
	}
	ip, err := utilnet.ChooseHostInterface()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot determine the address of this machine, which has no default route: give an advertise address: %w", err)
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return addr, fmt.Errorf("the host's address %v is not an IP address; give an advertise address", ip)
	}
	return addr.Unmap(), nil
}

func parseRange(what, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("the %s %q is not a CIDR (such as %s): %w", what, text, defaultPodCIDR, err)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("the %s %q has bits set after its prefix; did you mean %s?", what, text, p.Masked())
	}
	return p, nil
}

// publicURL returns the URL at which nodes and people reach the API server.
func (e endpoint) publicURL() string {
	return "https://" + net.JoinHostPort(e.advertise.String(), e.portText())
}

// localURL returns the URL at which this process reaches its own API server, even
// if the advertised address does not work.
func (e endpoint) localURL() string {
	host := e.listen.Addr()
	switch {
	case host == netip.IPv4Unspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host.IsUnspecified():
		host = netip.IPv6Loopback()
	}
	return "https://" + net.JoinHostPort(host.String(), e.portText())
}

func (e endpoint) portText() string { return strconv.Itoa(int(e.listen.Port())) }

// data returns the data directory.
func (s *settings) data() dataFolder { return dataFolder(s.DataDir) }

func (s *settings) path(elem ...string) string { return s.data().path(elem...) }

func (s *settings) authentication() authentication {
	return authentication{s.data(), s.AuthenticationFile}
}

// etcd returns how to reach an etcd that this process did not start.
func (s *settings) etcd() etcdAccess {
	return etcdAccess{s.EtcdServers, s.EtcdCAFile, s.EtcdCertFile, s.EtcdKeyFile}
}

// runningEtcd returns the cluster's etcd, embedded or not, while its servers run.
func (s *settings) runningEtcd() runningEtcd { return runningEtcd{s.data(), s.etcd(), s.embeddedStore} }

// ids returns the identities of the server and its parts.
func (s *settings) ids() identities {
	return identities{data: s.data(), at: s.endpoint, serviceIP: s.serviceRange.Addr().Next(), sans: s.SANs, simulator: s.Simulator, lock: s.pkiLock, alone: s.embeddedStore}
}

func (s *settings) progress(step string, since time.Time) { progressTo(s.Progress)(step, since) }

// progressTo returns a function that calls told after a step, with the time that it took. told may be nil.
func progressTo(told func(step string, took time.Duration)) func(step string, since time.Time) {
	return func(step string, since time.Time) {
		if told != nil {
			told(step, time.Since(since))
		}
	}
}
