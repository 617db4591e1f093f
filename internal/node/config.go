package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	kubeletapis "k8s.io/kubelet/pkg/apis"
	"k8s.io/kubernetes/pkg/util/taints"

	"everynode/internal/node/podnet"
	"everynode/internal/node/upstream"
)

// Config describes the node that the agent makes, and its cluster.
type Config struct {
	Name       string // name of the Node; default: the host name
	DataDir    string // everything the agent keeps lives below it
	RuntimeDir string // containerd, its shim, the CNI plugins and images/*.tar

	ImageDirs []string // directories of image archives imported at start, besides RuntimeDir/images
	Servers   []string // URLs of API servers, https://host:port; one that answers is enough
	Token     string   // join token (id.secret@sha256:hash of the CA); only needed until the node has joined
	NoToken   string   // why there is none, if the user meant to give one
	Rejoin    bool     // the token may be for a cluster with a different CA from the one that the node has joined
	NodeIP    string   // IPv4 address of the node; default: the address of the route to the servers
	Labels    map[string]string
	Taints    []string          // KEY=VALUE:EFFECT; a new node registers with them
	Reserved  map[string]string // resources that are not for pods: quantities by name

	// ClusterDNS is the address of the cluster's DNS. Empty: the address of the service
	// kube-system/kube-dns, if there is one.
	ClusterDNS string

	// ContainerRuntimeEndpoint is the CRI socket (unix:///...) of an existing runtime. Empty:
	// the agent runs a containerd of its own.
	ContainerRuntimeEndpoint string

	// CNI is the pod network that the agent sets up: podnet.Everynode, the default, or
	// podnet.None. With None the operator installs a network, which puts its configuration
	// into /etc/cni/net.d and its plugins into /opt/cni/bin. The node is not Ready before
	// that.
	CNI         string
	NoKubeProxy bool // the operator provides kube-proxy, or what replaces it

	// RegistryConfigs are files that configure registries and their mirrors, in the format of
	// k3s. If several files name a host, the first of them applies.
	RegistryConfigs []string

	// KubeletConfig is a file of kubelet settings that override the agent's; "" for none.
	KubeletConfig string

	// ContainerdConfig is a file of containerd's settings that are merged over the agent's; "" for none.
	ContainerdConfig string

	CgroupRoot string // parent cgroup of the pods, such as "/everynode-x/node-1"; "": the machine's root
	StopPods   bool   // stop the pods when the agent stops
	Local      bool   // the node shares disk and kernel with others: no image GC, no eviction

	Log *slog.Logger // nil: nothing is logged

	registries         registries // contents of RegistryConfigs
	kubeletFragment    []byte     // contents of KubeletConfig
	containerdFragment []byte     // contents of ContainerdConfig

	hosts []string // Servers as host:port
	api   string   // URL at which the programs of this machine reach the API
}

// maxSocketPath is the longest path, in bytes, that a unix socket address can have on Linux.
const maxSocketPath = 107

// complete returns cfg with its defaults filled in, or an error that says what is wrong with
// it.
func (cfg Config) complete() (Config, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if err := cfg.completePaths(); err != nil {
		return cfg, err
	}
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return cfg, fmt.Errorf("read the host name: %w; give the node a name with --node-name", err)
		}
		cfg.Name = strings.ToLower(host)
	}
	if cfg.CNI == "" {
		cfg.CNI = podnet.Everynode
	}
	if err := cfg.Check(); err != nil {
		return cfg, err
	}
	var err error
	if cfg.hosts, err = upstream.Parse(cfg.Servers); err != nil {
		return cfg, err
	}
	cfg.api = "https://" + cfg.hosts[0]
	if cfg.NodeIP == "" {
		if cfg.NodeIP, err = routeAddress(cfg.hosts); err != nil {
			return cfg, err
		}
	}
	if cfg.registries, err = readAllRegistries(cfg.RegistryConfigs); err != nil {
		return cfg, err
	}
	if cfg.kubeletFragment, err = readKubeletConfig(cfg.KubeletConfig); err != nil {
		return cfg, err
	}
	cfg.containerdFragment, err = readContainerdConfig(cfg.ContainerdConfig)
	return cfg, err
}

// Check returns what is wrong with cfg on any machine. It reads no files.
func (cfg Config) Check() error {
	if errs := validation.IsDNS1123Subdomain(cfg.Name); cfg.Name != "" && len(errs) > 0 {
		return fmt.Errorf("node name %q is not valid: %s; choose another with --node-name", cfg.Name, strings.Join(errs, "; "))
	}
	if cfg.ContainerdConfig != "" && cfg.ContainerRuntimeEndpoint != "" {
		return errors.New("--containerd-config is for everynode's own containerd: leave it out, or --container-runtime-endpoint")
	}
	if _, err := upstream.Parse(cfg.Servers); err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(cfg.NodeIP); cfg.NodeIP != "" && (err != nil || !ip.Is4()) {
		return fmt.Errorf("node address %q is not an IPv4 address: a node needs one that the other nodes can reach", cfg.NodeIP)
	}
	if _, err := netip.ParseAddr(cfg.ClusterDNS); cfg.ClusterDNS != "" && err != nil {
		return fmt.Errorf("the address of the cluster's DNS %q is not an IP address: correct --cluster-dns, or leave it out", cfg.ClusterDNS)
	}
	if err := podnet.Check(cfg.CNI); cfg.CNI != "" && err != nil {
		return fmt.Errorf("--cni %s: %w", cfg.CNI, err)
	}
	_, err := cfg.taints()
	return errors.Join(cfg.validateLabels(), err, validateReserved(cfg.Reserved))
}

// taints parses the taints with which a new node registers.
func (cfg Config) taints() ([]corev1.Taint, error) {
	add, remove, err := taints.ParseTaints(cfg.Taints)
	if err == nil && len(remove) > 0 {
		err = errors.New("one of them has no effect")
	}
	if err != nil {
		return nil, fmt.Errorf("--node-taints %s: %w: give KEY=VALUE:EFFECT, such as dedicated=storage:NoSchedule", strings.Join(cfg.Taints, ","), err)
	}
	return add, nil
}

// validateReserved checks the resources that are not for pods. The kubelet would refuse a bad
// one, but only in its own log.
func validateReserved(reserved map[string]string) error {
	known := []string{"cpu", "memory", "ephemeral-storage", "pid"}
	for _, name := range slices.Sorted(maps.Keys(reserved)) {
		q, err := resource.ParseQuantity(reserved[name])
		if !slices.Contains(known, name) || err != nil || q.Sign() < 0 {
			return fmt.Errorf("--system-reserved %s=%s: give amounts of %s, such as cpu=500m,memory=1Gi", name, reserved[name], strings.Join(known, ", "))
		}
	}
	return nil
}

func (cfg *Config) completePaths() error {
	if cfg.DataDir == "" {
		return errors.New("no data directory is set: give one with --data-dir")
	}
	for _, path := range []*string{&cfg.DataDir, &cfg.RuntimeDir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("resolve %s: %w", *path, err)
		}
		*path = abs
	}
	if socket := cfg.files().socket() + ".ttrpc"; cfg.ContainerRuntimeEndpoint == "" && len(socket) > maxSocketPath {
		return fmt.Errorf("data directory %s is too long by %d characters for containerd's socket (%s): choose a shorter one with --data-dir",
			cfg.DataDir, len(socket)-maxSocketPath, socket)
	}
	return nil
}

// routeAddress returns the local address from which packets leave for the first of the
// servers that has a route. Connecting a datagram socket sends nothing.
func routeAddress(hosts []string) (string, error) {
	var errs []error
	for _, host := range hosts {
		conn, err := net.Dial("udp4", host)
		if err != nil {
			errs = append(errs, fmt.Errorf("find the route to the API server %s: %w", host, err))
			continue
		}
		defer conn.Close()
		addr, err := netip.ParseAddrPort(conn.LocalAddr().String())
		if err != nil {
			return "", fmt.Errorf("read the local address of the route to %s: %w", host, err)
		}
		return addr.Addr().String(), nil
	}
	return "", fmt.Errorf("%w; check --server, or give this node's address with --node-ip", errors.Join(errs...))
}

// validateLabels refuses what the API server would refuse from a kubelet: ill-formed labels,
// labels reserved by Kubernetes, which a node may not give itself, and another node's name.
func (cfg Config) validateLabels() error {
	labels := cfg.Labels
	if name, given := labels[corev1.LabelHostname]; given && name != cfg.Name {
		return fmt.Errorf("node label %s=%s: a node has its own name there, which is %s, because volumes and pods are pinned to machines by it: "+
			"leave it out of --node-labels", corev1.LabelHostname, name, cfg.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if errs := validation.IsQualifiedName(key); len(errs) > 0 {
			return fmt.Errorf("node label %q is not valid: %s", key, strings.Join(errs, "; "))
		}
		if errs := validation.IsValidLabelValue(labels[key]); len(errs) > 0 {
			return fmt.Errorf("value %q of node label %s is not valid: %s", labels[key], key, strings.Join(errs, "; "))
		}
		if reservedLabel(key) {
			return fmt.Errorf("node label %s is reserved: a node may not set it on itself, because that could attract pods; "+
				"set it from outside with: everynode kubectl label node NAME %s=%s", key, key, labels[key])
		}
	}
	return nil
}

func reservedLabel(key string) bool {
	prefix, _, found := strings.Cut(key, "/")
	if !found || kubeletapis.IsKubeletLabel(key) {
		return false
	}
	for _, domain := range []string{"kubernetes.io", "k8s.io"} {
		if prefix == domain || strings.HasSuffix(prefix, "."+domain) {
			return true
		}
	}
	return false
}

// files returns the paths of the agent's files.
func (cfg Config) files() nodeFiles { return nodeFiles(cfg.DataDir) }

// endpoint is the CRI endpoint the kubelet talks to, as a URL.
func (cfg Config) endpoint() string {
	if cfg.ContainerRuntimeEndpoint != "" {
		return cfg.ContainerRuntimeEndpoint
	}
	return "unix://" + cfg.files().socket()
}

// endpointSocket is the path of the CRI socket.
func (cfg Config) endpointSocket() string {
	return strings.TrimPrefix(cfg.endpoint(), "unix://")
}

// The usual folders of a pod network's configuration and plugins. Software that adds plugins
// to an existing network, such as a service mesh, writes there.
const (
	usualCNIConfigDir = "/etc/cni/net.d"
	usualCNIPluginDir = "/opt/cni/bin"
)

// cniConfigDir is where the runtime looks for the configuration of its pod network. That is
// the usual folder if the runtime or the network is not the agent's, or if the node has that
// folder for itself (Local). On a machine, other programs may have left something in the
// usual folder, so everynode's configuration is in one below the data directory.
func (cfg Config) cniConfigDir() string {
	if cfg.ContainerRuntimeEndpoint != "" || cfg.CNI == podnet.None || cfg.Local {
		return usualCNIConfigDir
	}
	return cfg.files().path("cni", "net.d")
}

// cniPluginDirs are where the runtime looks for CNI plugins. If the operator installs the
// network, its plugins win over everynode's of the same name, and everynode's are there in
// case it needs them. With everynode's network, everynode's plugins win.
func (cfg Config) cniPluginDirs() []string {
	switch {
	case cfg.CNI == podnet.None:
		return []string{usualCNIPluginDir, cfg.RuntimeDir}
	case cfg.Local:
		return []string{cfg.RuntimeDir, usualCNIPluginDir}
	}
	return []string{cfg.RuntimeDir}
}

// recall reads what an earlier run of the agent has remembered about the API servers.
func (cfg Config) recall() upstream.Remembered {
	return upstream.Recall(cfg.files().servers(), cfg.Log)
}

// machineAddresses are the addresses of API servers that cfg knows, and of this
// machine.
func (cfg Config) machineAddresses() []netip.Addr {
	var addrs []netip.Addr
	for _, text := range slices.Concat(cfg.hosts, cfg.recall().Servers) {
		if ap, err := netip.ParseAddrPort(text); err == nil {
			addrs = append(addrs, ap.Addr().Unmap())
		}
	}
	if own, err := netip.ParseAddr(cfg.NodeIP); err == nil {
		addrs = append(addrs, own)
	}
	return addrs
}
