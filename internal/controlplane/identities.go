package controlplane

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"

	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
)

// Names of the certificates below pki/.
const (
	servingCert           = "apiserver"
	kubeletClientCert     = "apiserver-kubelet-client"
	frontProxyCert        = "front-proxy-client"
	adminCert             = "admin"
	controllerManagerCert = "controller-manager"
	schedulerCert         = "scheduler"
	engineCert            = "engine"
	nodeControllerCert    = "node-controller"
	loadBalancerCert      = "load-balancer"
	simulatorCert         = "simulator"
	simulatorServingCert  = "simulator-serving"
)

// leafNames returns the names of all certificates that are not authorities.
func leafNames() []string {
	return []string{servingCert, kubeletClientCert, frontProxyCert, adminCert, controllerManagerCert, schedulerCert,
		engineCert, nodeControllerCert, loadBalancerCert, simulatorCert, simulatorServingCert}
}

// Users and groups that bootstrap.yaml gives rights to.
const (
	adminGroup         = "everynode:cluster-admins"
	kubeletClientUser  = "kube-apiserver-kubelet-client"
	frontProxyUser     = "front-proxy-client"
	engineUser         = "system:everynode-controller"
	nodeControllerUser = "system:everynode-node-controller"
	loadBalancerUser   = "system:everynode-load-balancer"
	simulatorUser      = "system:everynode-simulator"
)

// identities are the certificates of a server and its parts, and kubeconfigs with some of them.
type identities struct {
	data      dataFolder
	at        endpoint
	serviceIP netip.Addr  // of the service "kubernetes"
	sans      []string    // more names of the API server
	simulator bool        // there are simulated nodes
	lock      *sync.Mutex // held while files below pki/ are changed
	alone     bool        // no other server has the same authorities
}

// leaves lists every leaf certificate that this control plane needs.
func (i identities) leaves() ([]pki.Certificate, error) {
	sans, err := i.servingNames()
	if err != nil {
		return nil, err
	}
	client := func(name, cn string, orgs ...string) pki.Certificate {
		return pki.Certificate{Name: name, CA: pki.ClusterCA, CN: cn, Orgs: orgs, Usage: x509.ExtKeyUsageClientAuth}
	}
	frontProxy := client(frontProxyCert, frontProxyUser)
	frontProxy.CA = pki.FrontProxyCA
	leaves := []pki.Certificate{
		{Name: servingCert, CA: pki.ClusterCA, CN: "kube-apiserver", Usage: x509.ExtKeyUsageServerAuth, SANs: sans},
		frontProxy,
		client(kubeletClientCert, kubeletClientUser),
		client(adminCert, "everynode-admin", adminGroup),
		client(controllerManagerCert, user.KubeControllerManager),
		client(schedulerCert, user.KubeScheduler),
		client(engineCert, engineUser),
		client(nodeControllerCert, nodeControllerUser),
		client(loadBalancerCert, loadBalancerUser),
	}
	if i.simulator {
		leaves = append(leaves, client(simulatorCert, simulatorUser),
			pki.Certificate{Name: simulatorServingCert, CA: pki.KubeletCA, CN: "simulated-kubelets", Usage: x509.ExtKeyUsageServerAuth, SANs: loopbackNames()})
	}
	return leaves, nil
}

// loopbackNames returns the names of a server that only this machine reaches.
func loopbackNames() certutil.AltNames {
	return certutil.AltNames{IPs: []net.IP{net.IPv4(127, 0, 0, 1).To4()}}
}

// SimulatorAccess names files in the data directory of a control plane, for the program
// that plays the kubelets of simulated nodes: a kubeconfig, and a certificate for 127.0.0.1.
type SimulatorAccess struct {
	Kubeconfig, CertFile, KeyFile string
}

// AccessForSimulator names the files. A control plane with Config.Simulator makes and
// renews them.
func AccessForSimulator(dataDir string) SimulatorAccess {
	data := dataFolder(dataDir)
	a := SimulatorAccess{Kubeconfig: data.kubeconfig(simulatorCert)}
	a.CertFile, a.KeyFile = pki.Paths(data.path("pki"), simulatorServingCert)
	return a
}

// servingNames returns the names and addresses under which clients may reach the
// API server, without repeats and in a fixed order.
func (i identities) servingNames() (certutil.AltNames, error) {
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), i.at.advertise, i.serviceIP}
	if listen := i.at.listen.Addr(); !listen.IsUnspecified() {
		addrs = append(addrs, listen)
	}
	if hostname, err := os.Hostname(); err == nil && hostname != "" {
		names = append(names, strings.ToLower(hostname))
	}
	for _, san := range i.sans {
		if addr, err := netip.ParseAddr(san); err == nil {
			addrs = append(addrs, addr.Unmap())
		} else if san == "" || strings.ContainsAny(san, " /:") {
			return certutil.AltNames{}, fmt.Errorf("the certificate name %q is neither an IP address nor a DNS name", san)
		} else {
			names = append(names, san)
		}
	}
	slices.Sort(names)
	slices.SortFunc(addrs, netip.Addr.Compare)
	sans := certutil.AltNames{DNSNames: slices.Compact(names)}
	for _, addr := range slices.Compact(addrs) {
		sans.IPs = append(sans.IPs, net.IP(addr.AsSlice()))
	}
	return sans, nil
}

// ensure makes or renews certificates and kubeconfigs.
func (i identities) ensure(now time.Time) error {
	i.lock.Lock()
	defer i.lock.Unlock()
	leaves, err := i.leaves()
	if err != nil {
		return err
	}
	if i.alone {
		if err := pki.RenewFrontProxy(i.data.path("pki"), now); err != nil {
			return err
		}
	}
	if err := pki.Ensure(i.data.path("pki"), leaves, now); err != nil {
		return err
	}
	kubeconfigs := []string{controllerManagerCert, schedulerCert}
	if i.simulator {
		kubeconfigs = append(kubeconfigs, simulatorCert)
	}
	for _, name := range kubeconfigs {
		if err := i.writeKubeconfig(i.data.kubeconfig(name), i.at.localURL(), name, false); err != nil {
			return err
		}
	}
	return i.writeKubeconfig(i.data.path("admin.kubeconfig"), i.at.publicURL(), adminCert, true)
}

// writeKubeconfig writes a kubeconfig for the certificate called name. With
// embed it can be copied to another machine. Without embed, a client reads the
// certificate again when it is renewed.
func (i identities) writeKubeconfig(path, url, name string, embed bool) error {
	crt, key := pki.Paths(i.data.path("pki"), name)
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["everynode"] = &clientcmdapi.Cluster{Server: url, CertificateAuthority: i.data.path("pki", pki.ClusterAuthorities)}
	cfg.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificate: crt, ClientKey: key}
	cfg.Contexts["everynode"] = &clientcmdapi.Context{Cluster: "everynode", AuthInfo: name}
	cfg.CurrentContext = "everynode"
	if embed {
		if err := clientcmdapi.FlattenConfig(cfg); err != nil {
			return fmt.Errorf("build %s: %w", path, err)
		}
	}
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	return private.WriteIfChanged(path, data)
}

// restConfig returns the configuration with which a part of this process calls the
// API server as the user of the certificate called name. The server's priority and
// fairness limits the rate of requests, not the client.
func (i identities) restConfig(name string) *rest.Config {
	crt, key := pki.Paths(i.data.path("pki"), name)
	return &rest.Config{
		Host:               i.at.localURL(),
		TLSClientConfig:    rest.TLSClientConfig{CAFile: i.data.path("pki", pki.ClusterAuthorities), CertFile: crt, KeyFile: key},
		UserAgent:          "everynode/" + name,
		QPS:                -1,
		DisableCompression: true,
	}
}

// renew renews what is due, and returns how long to wait before the next time.
func (i identities) renew(now time.Time) (next time.Duration) {
	if err := i.ensure(now); err != nil {
		klog.ErrorS(err, "Cannot renew certificates; the existing ones stay in use", "nextTry", renewAgain)
		return renewAgain
	}
	i.warnOfEnd(now)
	return renewEvery
}

// warnOfEnd warns in good time that an authority expires.
func (i identities) warnOfEnd(now time.Time) {
	for _, ca := range []struct{ name, what, then string }{
		{pki.ClusterCA, "The cluster's CA", "and every certificate with it: replace it before then, while everything is running (everynode server rotate ca prepare)"},
		{pki.FrontProxyCA, "The CA of the front proxy", "and no server of this cluster starts after that: replace it before then, as docs/security.md says"},
	} {
		if end, soon, err := i.endOf(ca.name, now); err != nil {
			klog.ErrorS(err, "Cannot tell when a CA expires", "CA", ca.name)
		} else if soon {
			klog.Warningf("%s expires on %s, %s", ca.what, end.Format(time.DateOnly), ca.then)
		}
	}
}

// endOf returns when an authority expires, and whether that is soon.
func (i identities) endOf(name string, now time.Time) (end time.Time, soon bool, err error) {
	ca, err := pki.Load(pki.Paths(i.data.path("pki"), name))
	if err != nil {
		return time.Time{}, false, err
	}
	end = ca.Cert.NotAfter
	return end, now.Add(pki.EndSoon).After(end), nil
}

// sealer returns the sealer of the cluster's CA in the data directory.
func (i identities) sealer() (*keySealer, error) {
	ca, err := pki.Load(pki.Paths(i.data.path("pki"), pki.ClusterCA))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	return newKeySealer(ca)
}
