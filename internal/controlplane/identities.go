package controlplane

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
)

// Names of the files below pki/, without .crt and .key where there are two.
const (
	clusterCA         = "ca"
	frontProxyCA      = "front-proxy-ca"
	serviceAccountKey = "service-account.key"
	serviceAccountPub = "service-account.pub"

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

// leafNames are the names of all certificates that are not authorities.
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

// certificates lists every leaf that this control plane is to have.
func (s *settings) certificates() ([]certificate, error) {
	sans, err := s.servingNames()
	if err != nil {
		return nil, err
	}
	client := func(name, cn string, orgs ...string) certificate {
		return certificate{name: name, ca: clusterCA, cn: cn, orgs: orgs, usage: x509.ExtKeyUsageClientAuth}
	}
	frontProxy := client(frontProxyCert, frontProxyUser)
	frontProxy.ca = frontProxyCA
	leaves := []certificate{
		{name: servingCert, ca: clusterCA, cn: "kube-apiserver", usage: x509.ExtKeyUsageServerAuth, sans: sans},
		frontProxy,
		client(kubeletClientCert, kubeletClientUser),
		client(adminCert, "everynode-admin", adminGroup),
		client(controllerManagerCert, user.KubeControllerManager),
		client(schedulerCert, user.KubeScheduler),
		client(engineCert, engineUser),
		client(nodeControllerCert, nodeControllerUser),
		client(loadBalancerCert, loadBalancerUser),
	}
	if s.Simulator {
		leaves = append(leaves, client(simulatorCert, simulatorUser),
			certificate{name: simulatorServingCert, ca: kubeletCA, cn: "simulated-kubelets", usage: x509.ExtKeyUsageServerAuth, sans: loopbackNames()})
	}
	return leaves, nil
}

// loopbackNames are those of a server that only this machine reaches.
func loopbackNames() certutil.AltNames {
	return certutil.AltNames{IPs: []net.IP{net.IPv4(127, 0, 0, 1).To4()}}
}

// SimulatorAccess is what plays the kubelets of simulated nodes has in the data
// directory of a control plane: a kubeconfig, and a certificate for 127.0.0.1.
type SimulatorAccess struct {
	Kubeconfig, CertFile, KeyFile string
}

// AccessForSimulator names the files. A control plane with Config.Simulator makes and
// renews them.
func AccessForSimulator(dataDir string) SimulatorAccess {
	s := &settings{Config: Config{DataDir: dataDir}}
	a := SimulatorAccess{Kubeconfig: s.kubeconfigPath(simulatorCert)}
	a.CertFile, a.KeyFile = pairPaths(s.path("pki"), simulatorServingCert)
	return a
}

// servingNames are the names and addresses under which clients may reach the
// API server, without repeats and in a fixed order.
func (s *settings) servingNames() (certutil.AltNames, error) {
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), s.advertise, s.firstServiceIP()}
	if listen := s.listen.Addr(); !listen.IsUnspecified() {
		addrs = append(addrs, listen)
	}
	if hostname, err := os.Hostname(); err == nil && hostname != "" {
		names = append(names, strings.ToLower(hostname))
	}
	for _, san := range s.SANs {
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

// ensureIdentities makes or renews certificates and kubeconfigs.
func (s *settings) ensureIdentities(now time.Time) error {
	s.identities.Lock()
	defer s.identities.Unlock()
	leaves, err := s.certificates()
	if err != nil {
		return err
	}
	if err := ensurePKI(s.path("pki"), leaves, now); err != nil {
		return err
	}
	kubeconfigs := []string{controllerManagerCert, schedulerCert}
	if s.Simulator {
		kubeconfigs = append(kubeconfigs, simulatorCert)
	}
	for _, name := range kubeconfigs {
		if err := s.writeKubeconfig(s.kubeconfigPath(name), s.localURL(), name, false); err != nil {
			return err
		}
	}
	return s.writeKubeconfig(s.path("admin.kubeconfig"), s.publicURL(), adminCert, true)
}

func (s *settings) kubeconfigPath(name string) string { return s.path("pki", name+".kubeconfig") }

// writeKubeconfig writes a kubeconfig for the certificate called name. With
// embed it can be copied to another machine; without, the client reads the
// certificate again when it is renewed.
func (s *settings) writeKubeconfig(path, url, name string, embed bool) error {
	crt, key := pairPaths(s.path("pki"), name)
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["everynode"] = &clientcmdapi.Cluster{Server: url, CertificateAuthority: s.path("pki", clusterAuthorities)}
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
	return writeIfChanged(path, data)
}

// restConfig is how a part of this process speaks to the API server as the
// user of the certificate called name. Requests are paced by the server's
// priority and fairness, not by the client.
func (s *settings) restConfig(name string) *rest.Config {
	crt, key := pairPaths(s.path("pki"), name)
	return &rest.Config{
		Host:               s.localURL(),
		TLSClientConfig:    rest.TLSClientConfig{CAFile: s.path("pki", clusterAuthorities), CertFile: crt, KeyFile: key},
		UserAgent:          "everynode/" + name,
		QPS:                -1,
		DisableCompression: true,
	}
}
