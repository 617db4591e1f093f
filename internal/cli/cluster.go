package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"everynode/internal/controlplane"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// How long processes get to stop before they are killed.
const (
	agentGrace  = 45 * time.Second
	serverGrace = 20 * time.Second
)

// machine is the cluster of one machine and the processes that make it run.
type machine struct {
	*local.Cluster
	exe        string
	runtimeDir string
	size       local.Size // of this machine
	file       []fileNode // what a file says of nodes that are new
}

func newMachine(c *local.Cluster) (*machine, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	size, err := local.MachineSize()
	if err != nil {
		return nil, err
	}
	runtimeDir := defaultRuntimeDir()
	c.InitProgram = filepath.Join(runtimeDir, "node-init")
	return &machine{Cluster: c, exe: exe, runtimeDir: runtimeDir, size: size}, nil
}

func (m *machine) serverURL() string { return "https://" + m.APIAddress().String() }

func (m *machine) serverLock() string { return serverLockOf(m.DataDir) }

func (m *machine) serverLog() string { return filepath.Join(m.DataDir, serverLogName) }

func (m *machine) agentLock(node string) string { return filepath.Join(m.NodeDir(node), "agent.lock") }

func (m *machine) tokenFile() string { return filepath.Join(m.DataDir, "join-token") }

// imageDir holds the archives that were loaded: nodes that come later get them
// as well.
func (m *machine) imageDir() string { return filepath.Join(m.DataDir, "images") }

func (m *machine) containerdSocket(node string) string {
	return filepath.Join(m.NodeDir(node), "containerd", "containerd.sock")
}

// hostPaths is what the control plane is told of hostPath volumes.
func (m *machine) hostPaths() string { return cmp.Or(m.HostPathPolicy, controlplane.HostPathsWarn) }

// server describes the control plane's process.
func (m *machine) server() local.Process {
	argv := []string{m.exe, "server", "--data-dir", m.DataDir, "--listen", m.APIAddress().String(),
		fmt.Sprintf("--%s=%v", daemonSetFlag, !m.NoDaemonSets), fmt.Sprintf("--%s=%v", auditFlag, m.Audit), "--pod-cidr", m.PodCIDR.String(), "--service-cidr", m.ServiceCIDR.String()}
	argv = append(argv, "--"+hostPathFlag, m.hostPaths(), "--"+podSecurityFlag, controlplane.PodsPrivileged, "--"+simulatorFlag, "--"+snapshotEveryFlag, "0")
	argv = append(argv, m.addonArgs()...)
	if !m.Loopback {
		first, last := m.BalancerRange()
		argv = append(argv, "--node-cidr", m.Subnet.String(), "--load-balancer-range", first.String()+"-"+last.String())
		for _, p := range m.Publish {
			argv = append(argv, "--"+publishFlag, p)
		}
	}
	return local.Process{
		Name:     "control plane",
		Argv:     argv,
		Log:      m.serverLog(),
		LockFile: m.serverLock(),
	}
}

// agent describes the process of one node, which runs inside the node's
// namespaces.
func (m *machine) agent(n local.Node) local.Process {
	dir := m.NodeDir(n.Name)
	argv := []string{m.exe, "enter", "--pins", m.PinDir(n.Name), "--cgroup", m.SystemCgroup(n.Name), "--",
		m.exe, "agent", "--local", "--stop-pods", "--data-dir", dir, "--runtime-dir", m.runtimeDir,
		"--image-dir", m.imageDir(), "--server", m.serverURL(), "--token-file", m.tokenFile(),
		"--node-name", n.Name, "--node-ip", n.Address.String(), "--cgroup-root", m.PodCgroup(n.Name)}
	// The address is known here already: the kubelet need not wait until the agent has asked for it.
	if address, ok := controlplane.DNSAddress(m.ServiceCIDR); ok && m.hasDNS() {
		argv = append(argv, "--cluster-dns", address.String())
	}
	argv = append(argv, m.networkArgs()...)
	if m.hasRegistries() {
		argv = append(argv, "--"+registryFlag, m.registriesFile())
	}
	if m.hasRegistry() {
		argv = append(argv, "--"+registryFlag, m.localRegistryFile())
	}
	if m.hasKubeletConfig() {
		argv = append(argv, "--"+kubeletFlag, m.kubeletFile())
	}
	for _, f := range m.file {
		if f.Name == n.Name {
			argv = append(argv, f.atBirth()...)
		}
	}
	if others := reserved(n.Size, m.size); others != "" {
		argv = append(argv, "--system-reserved", others)
	}
	return local.Process{
		Name:     "agent of " + n.Name,
		Argv:     argv,
		Log:      filepath.Join(dir, "agent.log"),
		LockFile: m.agentLock(n.Name),

		PIDNamespace: m.PIDNamespace(n.Name),
	}
}

// startNode makes the node's namespaces and starts its agent, if they are not
// there.
func (m *machine) startNode(ctx context.Context, n local.Node) error {
	if err := m.EnsureNode(ctx, n.Name); err != nil {
		return err
	}
	if _, ok := datadir.Running(m.agentLock(n.Name)); ok {
		return nil
	}
	_, err := local.Spawn(ctx, m.agent(n))
	return err
}

// stopNode switches the machine off: its agent, with the pods, and whatever is
// left after that.
func (m *machine) stopNode(ctx context.Context, n local.Node) error {
	return errors.Join(local.Stop(ctx, m.agentLock(n.Name), agentGrace), m.KillAll(ctx, n.Name))
}

func (m *machine) stopServer(ctx context.Context) error {
	return local.Stop(ctx, m.serverLock(), serverGrace)
}

// nodeRuns says whether any real node runs.
func (m *machine) nodeRuns() bool {
	return slices.ContainsFunc(m.Nodes, func(n local.Node) bool {
		_, runs := datadir.Running(m.agentLock(n.Name))
		return runs
	})
}

// running says whether anything of the cluster runs, and whether all of it does
// that should.
func (m *machine) running() (some, all bool) {
	_, up := datadir.Running(m.serverLock())
	some, all = up, up
	for _, n := range m.Nodes {
		_, up := datadir.Running(m.agentLock(n.Name))
		some = some || up
		all = all && (up || n.Stopped)
	}
	_, up = datadir.Running(m.simulatorLock())
	_, simulates, _ := readRules(m.DataDir) // who starts the simulator is told what is wrong with them
	some, all = some || up, all && (up || !simulates)
	_, up = datadir.Running(m.registryLock())
	some, all = some || up, all && (up || !m.hasRegistry())
	return some, all
}
