// Package localcluster is the cluster of one machine as the command line knows it: where its data are, what was
// chosen for it, the processes that make it run, the order in which they start and stop, and what is deleted with it.
// Package local has the cluster's record, and does what needs the kernel.
package localcluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"everynode/internal/addons"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// ServerLogName, in the data directory, is the log of a server that `up` has started.
const ServerLogName = "server.log"

// How long processes may take to stop before they are killed.
const (
	agentGrace  = 45 * time.Second
	serverGrace = 20 * time.Second
)

// Cluster is the cluster of one machine and the processes that make it run.
type Cluster struct {
	*local.Cluster
	exe        string
	runtimeDir string
	size       local.Size // of this machine
	specs      []NodeSpec // what a file says of new nodes
}

// New returns the cluster that a record describes.
func New(c *local.Cluster) (*Cluster, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	size, err := local.MachineSize()
	if err != nil {
		return nil, err
	}
	runtimeDir := DefaultRuntimeDir()
	c.InitProgram = filepath.Join(runtimeDir, "node-init")
	return &Cluster{Cluster: c, exe: exe, runtimeDir: runtimeDir, size: size}, nil
}

// ServerURL is the URL of the API server.
func (c *Cluster) ServerURL() string { return "https://" + c.APIAddress().String() }

// ServerLock is the lock file that the control plane holds while it runs.
func (c *Cluster) ServerLock() string { return ServerLock(c.DataDir) }

// ServerLog is the control plane's log.
func (c *Cluster) ServerLog() string { return filepath.Join(c.DataDir, ServerLogName) }

// AgentLock is the lock file that a node's agent holds while it runs.
func (c *Cluster) AgentLock(node string) string { return filepath.Join(c.NodeDir(node), "agent.lock") }

// tokenFile is the file of the token that nodes join with. It exists only while they join.
func tokenFile(dataDir string) string { return filepath.Join(dataDir, "join-token") }

// imageDir is the folder of the archives that were loaded: nodes that are added later load them as well.
func imageDir(dataDir string) string { return filepath.Join(dataDir, "images") }

// server describes the control plane's process.
func (c *Cluster) server() local.Process {
	argv := []string{c.exe, "server", "--" + FlagLocal, "--data-dir", c.DataDir, "--listen", c.APIAddress().String(),
		fmt.Sprintf("--%s=%v", FlagEngine, !c.NoDaemonSets), fmt.Sprintf("--%s=%v", FlagAudit, c.Audit), "--pod-cidr", c.PodCIDR.String(), "--service-cidr", c.ServiceCIDR.String()}
	argv = append(argv, "--"+FlagHostPaths, hostPathsOf(c.Cluster), "--"+FlagPodSecurity, controlplane.PodsPrivileged, "--"+FlagSimulator, "--"+FlagSnapshotEvery, "0")
	argv = append(argv, c.addons().args()...)
	if !c.Loopback {
		first, last := c.BalancerRange()
		argv = append(argv, "--node-cidr", c.Subnet.String(), "--load-balancer-range", first.String()+"-"+last.String())
		for _, p := range c.Publish {
			argv = append(argv, "--"+FlagPublish, p)
		}
	}
	return local.Process{
		Name:     "control plane",
		Argv:     argv,
		Log:      c.ServerLog(),
		LockFile: c.ServerLock(),
	}
}

// agent describes the process of one node, which runs inside the node's
// namespaces.
func (c *Cluster) agent(n local.Node) local.Process {
	dir := c.NodeDir(n.Name)
	argv := []string{c.exe, "enter", "--pins", c.PinDir(n.Name), "--cgroup", c.SystemCgroup(n.Name), "--",
		c.exe, "agent", "--" + FlagLocal, "--stop-pods", "--data-dir", dir, "--runtime-dir", c.runtimeDir,
		"--image-dir", imageDir(c.DataDir), "--server", c.ServerURL(), "--token-file", tokenFile(c.DataDir),
		"--node-name", n.Name, "--node-ip", n.Address.String(), "--cgroup-root", c.PodCgroup(n.Name)}
	// The address is already known, so the kubelet need not wait until the agent has asked for it.
	if address, ok := controlplane.DNSAddress(c.ServiceCIDR); ok && c.addons().has(addons.DNS) {
		argv = append(argv, "--cluster-dns", address.String())
	}
	argv = append(argv, networkArgs(c.Cluster)...)
	if file := nodeFiles(c.DataDir).registries(); isKept(file) {
		argv = append(argv, "--"+FlagRegistries, file)
	}
	if registry := c.Registry(); registry.Wanted() {
		argv = append(argv, "--"+FlagRegistries, registry.nodesFile())
	}
	if file := nodeFiles(c.DataDir).kubelet(); isKept(file) {
		argv = append(argv, "--"+FlagKubelet, file)
	}
	if file := nodeFiles(c.DataDir).containerd(); isKept(file) {
		argv = append(argv, "--"+FlagContainerd, file)
	}
	for _, f := range c.specs {
		if f.Name == n.Name {
			argv = append(argv, f.AtBirth()...)
		}
	}
	if others := reserved(n.Size, c.size); others != "" {
		argv = append(argv, "--system-reserved", others)
	}
	return local.Process{
		Name:     "agent of " + n.Name,
		Argv:     argv,
		Log:      filepath.Join(dir, "agent.log"),
		LockFile: c.AgentLock(n.Name),

		PIDNamespace: c.PIDNamespace(n.Name),
	}
}

// startNode makes the node's namespaces and starts its agent, if they do not exist yet.
func (c *Cluster) startNode(ctx context.Context, n local.Node) error {
	if err := c.Host().EnsureNode(ctx, n.Name); err != nil {
		return err
	}
	if _, ok := datadir.Running(c.AgentLock(n.Name)); ok {
		return nil
	}
	_, err := local.Spawn(ctx, c.agent(n))
	return err
}

// StopNode switches the machine off: it stops the agent, with the pods, and whatever is left after that.
func (c *Cluster) StopNode(ctx context.Context, n local.Node) error {
	return errors.Join(local.Stop(ctx, c.AgentLock(n.Name), agentGrace), c.Host().KillAll(ctx, n.Name))
}

func (c *Cluster) stopServer(ctx context.Context) error {
	return local.Stop(ctx, c.ServerLock(), serverGrace)
}

// nodeRuns reports whether any real node runs.
func (c *Cluster) nodeRuns() bool {
	return slices.ContainsFunc(c.Nodes, func(n local.Node) bool {
		_, runs := datadir.Running(c.AgentLock(n.Name))
		return runs
	})
}

// Running reports whether anything of the cluster runs, and whether everything runs that should.
func (c *Cluster) Running() (some, all bool) {
	_, up := datadir.Running(c.ServerLock())
	some, all = up, up
	for _, n := range c.Nodes {
		_, up := datadir.Running(c.AgentLock(n.Name))
		some = some || up
		all = all && (up || n.Stopped)
	}
	_, up = datadir.Running(c.Simulator().Lock())
	_, simulates, _ := ReadRules(c.DataDir) // an error is reported where the simulator is started
	some, all = some || up, all && (up || !simulates)
	registry := c.Registry()
	_, up = datadir.Running(registry.Lock())
	some, all = some || up, all && (up || !registry.Wanted())
	return some, all
}

// hostPathsOf is the control plane's policy for hostPath volumes.
func hostPathsOf(c *local.Cluster) string {
	return cmp.Or(c.HostPathPolicy, controlplane.HostPathsWarn)
}

// DefaultRuntimeDir is the folder "runtime" next to this program.
func DefaultRuntimeDir() string {
	exe, err := os.Executable()
	if err != nil {
		return "runtime"
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Join(filepath.Dir(exe), "runtime")
}
