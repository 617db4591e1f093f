package localcluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"everynode/internal/addons"
	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
	"everynode/internal/local"
	"everynode/internal/node/podnet"
)

// Wanted is what the user asked of a cluster.
type Wanted struct {
	Nodes          int        // real ones; 0: not given, None: none at all
	Size           local.Size // of new nodes
	File           []NodeSpec // nodes by name; with them, Nodes is 0
	Registries     string     // file; "": as before
	Kubelet        string     // file of the kubelet's settings; "": as before
	Containerd     string     // file of containerd's settings; "": as before
	Publish        []string
	Publishing     bool // Publish was given
	Engine         bool // the control plane has the DaemonSet engine inside
	EngineGiven    bool
	CNI            string // the nodes' pod network
	CNIGiven       bool
	KubeProxy      bool // the nodes run kube-proxy
	KubeProxyGiven bool
	Audit          bool // the control plane keeps an audit log
	AuditGiven     bool
	Addons         map[string]bool // whether each add-on that the user named is on, by name
	HostPaths      string          // what to do about pods with hostPath volumes; "": as before
}

// None is a number of nodes that means no real nodes.
const None = -1

// Network is what the user asked for of the network, or what the cluster has where the user did not ask.
func (w Wanted) Network(c *local.Cluster) (noCNI, noKubeProxy bool) {
	noCNI, noKubeProxy = c.NoCNI, c.NoKubeProxy
	if w.CNIGiven {
		noCNI = w.CNI == podnet.None
	}
	if w.KubeProxyGiven {
		noKubeProxy = !w.KubeProxy
	}
	return noCNI, noKubeProxy
}

// choosing records what the user asked of a cluster.
type choosing struct {
	cluster *Cluster
	asked   Wanted
}

// Choose records what the user asked of the cluster, for later starts as well. It is an error to change what a
// running control plane, or nodes that run, were started with.
func (c *Cluster) Choose(asked Wanted) error {
	w := choosing{c, asked}
	return errors.Join(w.addons(), w.engine(), w.network(), w.audit(), w.hostPaths(), w.published(), w.registries(), w.kubelet(), w.containerd())
}

// addons records which add-ons the cluster is to have.
func (w choosing) addons() error {
	choice := maps.Clone(w.cluster.Addons)
	if choice == nil {
		choice = map[string]bool{}
	}
	maps.Copy(choice, w.asked.Addons)
	before, after := addons.Names(addons.Chosen(w.cluster.Addons)), addons.Names(addons.Chosen(choice))
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs && !slices.Equal(before, after) {
		return fmt.Errorf("the control plane runs with the add-ons %s: stop it with `everynode down` to change that", listed(before))
	}
	if slices.Contains(before, addons.Registry) != slices.Contains(after, addons.Registry) && w.cluster.nodeRuns() {
		return errOtherRegistries
	}
	if err := w.cluster.addons().checkArchives(w.asked.Addons); err != nil {
		return err
	}
	w.cluster.Addons = choice
	if w.cluster.addons().has(addons.Registry) {
		return w.cluster.ChooseRegistryPort()
	}
	return nil
}

// engine records whether the control plane has the DaemonSet engine inside.
func (w choosing) engine() error {
	if !w.asked.EngineGiven || w.asked.Engine == !w.cluster.NoDaemonSets {
		return nil
	}
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%v: stop it with `everynode down` to change that", FlagEngine, !w.cluster.NoDaemonSets)
	}
	w.cluster.NoDaemonSets = !w.asked.Engine
	return nil
}

// network records which pod network the nodes have, and whether they run kube-proxy.
func (w choosing) network() error {
	noCNI, noKubeProxy := w.asked.Network(w.cluster.Cluster)
	if noCNI == w.cluster.NoCNI && noKubeProxy == w.cluster.NoKubeProxy {
		return nil
	}
	if w.cluster.Loopback {
		return fmt.Errorf("--%s and --%s: simulated nodes have no network: leave them out", FlagCNI, FlagKubeProxy)
	}
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs || w.cluster.nodeRuns() {
		return fmt.Errorf("the cluster runs with --%s=%s --%s=%v: stop it with `everynode down` to change that", FlagCNI, map[bool]string{true: podnet.None, false: podnet.Everynode}[w.cluster.NoCNI], FlagKubeProxy, !w.cluster.NoKubeProxy)
	}
	w.cluster.NoCNI, w.cluster.NoKubeProxy = noCNI, noKubeProxy
	return nil
}

// audit records whether the control plane keeps an audit log.
func (w choosing) audit() error {
	if !w.asked.AuditGiven || w.asked.Audit == w.cluster.Audit {
		return nil
	}
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%v: stop it with `everynode down` to change that", FlagAudit, w.cluster.Audit)
	}
	w.cluster.Audit = w.asked.Audit
	return nil
}

// published records the ports of this machine that lead to services.
func (w choosing) published() error {
	if !w.asked.Publishing || slices.Equal(w.asked.Publish, w.cluster.Publish) {
		return nil
	}
	if w.cluster.Loopback {
		return fmt.Errorf("--%s: a cluster of simulated nodes alone has no services that answer", FlagPublish)
	}
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%s: stop it with `everynode down` to change that", FlagPublish, strings.Join(w.cluster.Publish, ","))
	}
	w.cluster.Publish = w.asked.Publish
	return nil
}

// hostPaths records what to do about pods with hostPath volumes.
func (w choosing) hostPaths() error {
	policy := w.asked.HostPaths
	if policy == "" || policy == hostPathsOf(w.cluster.Cluster) {
		return nil
	}
	if _, runs := datadir.Running(w.cluster.ServerLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%s: stop it with `everynode down` to change that", FlagHostPaths, hostPathsOf(w.cluster.Cluster))
	}
	w.cluster.HostPathPolicy = policy
	return nil
}

// registries keeps a copy of the file of registries, which has been checked.
func (w choosing) registries() error {
	if w.asked.Registries == "" {
		return nil
	}
	return w.keepForNodes(FlagRegistries, w.asked.Registries, nodeFiles(w.cluster.DataDir).registries(), errOtherRegistries)
}

// kubelet keeps a copy of the file of kubelet settings, which has been checked.
func (w choosing) kubelet() error {
	if w.asked.Kubelet == "" {
		return nil
	}
	return w.keepForNodes(FlagKubelet, w.asked.Kubelet, nodeFiles(w.cluster.DataDir).kubelet(), errOtherKubelet)
}

// containerd keeps a copy of the file of containerd's settings, which has been checked.
func (w choosing) containerd() error {
	if w.asked.Containerd == "" {
		return nil
	}
	return w.keepForNodes(FlagContainerd, w.asked.Containerd, nodeFiles(w.cluster.DataDir).containerd(), errOtherContainerd)
}

// keepForNodes keeps a copy of a flag's file, which nodes read when they start. Nodes that run have read the kept
// copy: it returns the error other if the file differs from that.
func (w choosing) keepForNodes(flag, file, kept string, other error) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read --%s: %w", flag, err)
	}
	now, err := os.ReadFile(kept)
	if err == nil && bytes.Equal(now, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what the cluster has of --%s: %w", flag, err)
	}
	if w.cluster.nodeRuns() {
		return other
	}
	if err := atomicfile.Write(kept, text); err != nil {
		return fmt.Errorf("keep what --%s says: %w", flag, err)
	}
	return nil
}
