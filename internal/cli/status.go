package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/local"
	"everynode/internal/why"
)

// clusterStatus is what `status -o json` prints.
type clusterStatus struct {
	DataDir string        `json:"dataDir"`
	API     apiStatus     `json:"api"`
	Server  processStatus `json:"server"`
	// DaemonSets is which controller works for DaemonSets.
	DaemonSets engineStatus `json:"daemonSets"`
	Nodes      []nodeStatus `json:"nodes"`
	// Simulator is nil in a cluster without simulated nodes.
	Simulator *simulatorStatus `json:"simulator,omitempty"`

	// Registry is nil in a cluster without a local registry.
	Registry *registryStatus `json:"registry,omitempty"`

	simulated []nodeStatus // the simulated nodes
}

// simulatorStatus is the simulator's process, with totals of its nodes.
type simulatorStatus struct {
	processStatus
	Nodes int `json:"nodes"`
	Ready int `json:"ready"`
	Pods  int `json:"pods"`
}

// registryStatus is the local registry's process, and its name.
type registryStatus struct {
	processStatus
	Host string `json:"host"`
}

type apiStatus struct {
	URL     string `json:"url"`
	Ready   bool   `json:"ready"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

// engineStatus is which controller works for DaemonSets, as far as that is known.
type engineStatus struct {
	// Inside is whether the control plane is to run the engine; nil if that is not
	// known, as for a server that somebody else has started.
	Inside *bool `json:"inside,omitempty"`
	// Lease is the lease of engines outside; nil if it could not be read.
	Lease *why.Lease `json:"lease,omitempty"`
}

// String returns it in one line.
func (e engineStatus) String() string {
	switch {
	case e.Inside == nil && e.Lease == nil:
		return "not known"
	case e.Inside == nil:
		return "engine inside the control plane, unless it was started without; " + e.Lease.String()
	case *e.Inside && e.Lease != nil && e.Lease.Held:
		return "engine inside the control plane; and " + e.Lease.String() + ": two controllers delete each other's pods"
	case *e.Inside:
		return "engine inside the control plane"
	case e.Lease == nil:
		return "engine off in the control plane"
	default:
		return "engine off in the control plane; " + e.Lease.String()
	}
}

// processStatus is a process of ours. RSS is in bytes.
type processStatus struct {
	Running bool   `json:"running"`
	PID     int    `json:"pid,omitempty"`
	RSS     int64  `json:"rssBytes,omitempty"`
	Since   string `json:"since,omitempty"`
}

type nodeStatus struct {
	Name    string        `json:"name"`
	Address string        `json:"address"`
	Agent   processStatus `json:"agent"`
	// Kubernetes is Ready, NotReady, "not registered" or unknown.
	Kubernetes string `json:"kubernetes"`
	Pods       int    `json:"pods"`
	Simulated  bool   `json:"simulated,omitempty"`
	// Elsewhere is whether its agent runs on another machine, where this command
	// did not start it.
	Elsewhere bool   `json:"elsewhere,omitempty"`
	Note      string `json:"note,omitempty"`
}

// statusCommand is `everynode status`.
type statusCommand struct {
	*console.Console
	cluster *target
}

func (cmd statusCommand) command() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what runs: control plane, machines, nodes",
		Example: `  everynode status
  everynode status -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := cmd.any(c.Context())
			if err != nil {
				return err
			}
			return cmd.Print(output, s, func() error { return cmd.text(s) })
		},
	}
	cmd.cluster.addFlags(c)
	console.OutputFlag(c, &output)
	return c
}

// any is the status of a cluster of this machine, or of a lone server.
func (cmd statusCommand) any(ctx context.Context) (clusterStatus, error) {
	if localcluster.IsServerFolder(cmd.cluster.dataDir) {
		return serverStatus(ctx, cmd.cluster.dataDir), nil
	}
	m, err := cmd.cluster.open()
	if err != nil {
		return clusterStatus{}, err
	}
	return statusOf(ctx, m), nil
}

// serverStatus is what a server knows of itself and of the nodes that have joined.
func serverStatus(ctx context.Context, dataDir string) clusterStatus {
	s := clusterStatus{DataDir: dataDir, Server: processOf(localcluster.ServerLock(dataDir)), Nodes: []nodeStatus{}}
	nodes, pods, err := apiView(ctx, &s)
	if err != nil {
		return s
	}
	for name, n := range nodes {
		ns := nodeStatus{Name: name, Kubernetes: kubernetesState(n), Pods: pods[name], Elsewhere: true}
		for _, address := range n.Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				ns.Address = address.Address
			}
		}
		s.Nodes = append(s.Nodes, ns)
	}
	slices.SortFunc(s.Nodes, func(a, b nodeStatus) int { return why.Naturally(a.Name, b.Name) })
	return s
}

// statusOf is what is known of a cluster of this machine and its nodes.
func statusOf(ctx context.Context, m *localcluster.Cluster) clusterStatus {
	s := clusterStatus{
		DataDir: m.DataDir,
		API:     apiStatus{URL: m.ServerURL()},
		Server:  processOf(m.ServerLock()),
		Nodes:   []nodeStatus{},
	}
	inside := !m.NoDaemonSets
	s.DaemonSets.Inside = &inside
	nodes, pods, err := apiView(ctx, &s)
	for _, n := range m.Nodes {
		ns := nodeStatus{Name: n.Name, Address: n.Address.String(), Agent: processOf(m.AgentLock(n.Name)), Kubernetes: "unknown"}
		if err == nil {
			ns.Kubernetes, ns.Pods = kubernetesState(nodes[n.Name]), pods[n.Name]
		}
		ns.Note = noteFor(n, ns, nodes[n.Name])
		s.Nodes = append(s.Nodes, ns)
	}
	if _, simulates, _ := localcluster.ReadRules(m.DataDir); simulates {
		s.simulated = simulatedNodes(nodes, pods)
		s.Simulator = sumUp(processOf(m.Simulator().Lock()), s.simulated)
	}
	if registry := m.Registry(); registry.Wanted() {
		s.Registry = &registryStatus{processOf(registry.Lock()), registry.Host}
	}
	return s
}

// simulatedNodes returns the simulated nodes by name, with sim-2 before sim-10.
func simulatedNodes(nodes map[string]*corev1.Node, pods map[string]int) []nodeStatus {
	var all []nodeStatus
	for name, n := range nodes {
		if !fleet.Simulated(n) {
			continue
		}
		ns := nodeStatus{Name: name, Kubernetes: kubernetesState(n), Pods: pods[name], Simulated: true}
		for _, address := range n.Status.Addresses {
			if address.Type == corev1.NodeExternalIP {
				ns.Address = address.Address
			}
		}
		if fleet.Off(n) {
			ns.Note = stoppedNote(name, ns.Kubernetes)
		}
		all = append(all, ns)
	}
	slices.SortFunc(all, func(a, b nodeStatus) int { return why.Naturally(a.Name, b.Name) })
	return all
}

func sumUp(process processStatus, nodes []nodeStatus) *simulatorStatus {
	s := &simulatorStatus{processStatus: process, Nodes: len(nodes)}
	for _, n := range nodes {
		s.Pods += n.Pods
		if n.Kubernetes == "Ready" {
			s.Ready++
		}
	}
	return s
}

// apiView asks the API server for the nodes and the number of pods on each node.
func apiView(ctx context.Context, s *clusterStatus) (nodes map[string]*corev1.Node, pods map[string]int, err error) {
	defer func() {
		if err != nil {
			s.API.Error = err.Error()
		}
	}()
	config, err := localcluster.SavedConfig(s.DataDir)
	if err != nil {
		return nil, nil, err
	}
	s.API.URL = config.Host
	if err := localcluster.Stopped(s.DataDir); err != nil {
		return nil, nil, err
	}
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return nil, nil, err
	}
	s.API.Ready, s.API.Version = localcluster.ProbeAPI(ctx, s.DataDir) == nil, version.GitVersion
	if lease, err := why.ReadLease(ctx, client, time.Now()); err == nil {
		s.DaemonSets.Lease = &lease // without it the status is shorter, but still true
	}
	return listNodes(ctx, client)
}

func listNodes(ctx context.Context, client kubernetes.Interface) (nodes map[string]*corev1.Node, pods map[string]int, err error) {
	nodeList, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	podList, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	nodes, pods = map[string]*corev1.Node{}, map[string]int{}
	for i := range nodeList.Items {
		nodes[nodeList.Items[i].Name] = &nodeList.Items[i]
	}
	for i := range podList.Items {
		pods[podList.Items[i].Spec.NodeName]++
	}
	return nodes, pods, nil
}

const notRegistered = "not registered"

func kubernetesState(n *corev1.Node) string {
	if n == nil {
		return notRegistered
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return "Ready"
		}
	}
	return "NotReady"
}

// noteFor returns what is unusual about a node, and what to do about it.
func noteFor(n local.Node, s nodeStatus, seen *corev1.Node) string {
	switch {
	case n.Stopped:
		return stoppedNote(n.Name, s.Kubernetes)
	case !s.Agent.Running:
		return "its agent does not run: `everynode up`"
	case s.Kubernetes == notRegistered:
		return fmt.Sprintf("the Node was deleted, its machine still runs: `everynode node start %s` registers it again", n.Name)
	case seen != nil && localcluster.LacksNetwork(seen, time.Time{}):
		return localcluster.ErrNoNetwork.Error() + ": with --cni none you install one (docs/local-cluster.md)"
	default:
		return ""
	}
}

// stoppedNote is for a node that was stopped. If it is still Ready, that is only
// the last report that Kubernetes has.
func stoppedNote(name, kubernetes string) string {
	text := fmt.Sprintf("stopped by hand: `everynode node start %s`", name)
	if kubernetes == "Ready" {
		text += "; Kubernetes notices that within a minute"
	}
	return text
}

func processOf(lock string) processStatus {
	pid, ok := datadir.Running(lock)
	if !ok {
		return processStatus{}
	}
	s := processStatus{Running: true, PID: pid}
	if p, err := local.Inspect(pid); err == nil {
		s.RSS, s.Since = p.RSS, p.Started.UTC().Format(time.RFC3339)
	}
	return s
}

func (cmd statusCommand) text(s clusterStatus) error {
	state := "ready, " + s.API.Version
	if !s.API.Ready {
		state = "not ready: " + s.API.Error
	}
	fmt.Fprintf(cmd.Out, "Data           %s\nAPI server     %s (%s)\nControl plane  %s\nDaemonSets     %s\n",
		s.DataDir, s.API.URL, state, processText(s.Server), s.DaemonSets)
	if r := s.Registry; r != nil {
		fmt.Fprintf(cmd.Out, "Registry       %s (%s)\n", r.Host, processText(r.processStatus))
	}
	if f := s.Simulator; f != nil {
		fmt.Fprintf(cmd.Out, "Simulator      %s: %d nodes, %d Ready, %d pods\n", processText(f.processStatus), f.Nodes, f.Ready, f.Pods)
		if len(s.Nodes) == 0 {
			return nil
		}
	}
	if s.Nodes == nil || len(s.Nodes) == 0 && !s.API.Ready {
		return nil
	}
	fmt.Fprintln(cmd.Out)
	return nodeTable(cmd.Out, s.Nodes)
}

func nodeTable(out io.Writer, nodes []nodeStatus) error {
	t := console.NewTable(out, "NODE", "ADDRESS", "AGENT", "KUBERNETES", "PODS")
	for _, n := range nodes {
		agent := processText(n.Agent)
		switch {
		case n.Simulated:
			agent = "simulated"
		case n.Elsewhere:
			agent = "elsewhere"
		}
		t.Row(n.Name, n.Address, agent, n.Kubernetes, fmt.Sprint(n.Pods))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Note != "" {
			fmt.Fprintf(out, "%s: %s\n", n.Name, n.Note)
		}
	}
	return nil
}

func processText(p processStatus) string {
	if !p.Running {
		return "stopped"
	}
	text := fmt.Sprintf("pid %d, %d MB RSS", p.PID, p.RSS>>20)
	if since, err := time.Parse(time.RFC3339, p.Since); err == nil {
		text += ", up " + duration.HumanDuration(time.Since(since))
	}
	return text
}
