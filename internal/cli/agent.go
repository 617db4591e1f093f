package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/logfile"
	"everynode/internal/node"
	"everynode/internal/node/podnet"
)

// defaultAgentDir is where an agent keeps its state unless --data-dir says otherwise.
const defaultAgentDir = "/var/lib/everynode-agent"

func agentCommand(terminal *console.Console) *cobra.Command {
	config := node.Config{}
	tokenFile, kubeProxy := "", true
	c := &cobra.Command{
		Use:   "agent --server URL [--token TOKEN | --token-file FILE]",
		Short: "Make this machine a node, in the foreground",
		Long: `Join this machine to a control plane and run containerd, the kubelet and kube-proxy on
it. The token is needed once: afterwards the node has a certificate of its own.
EVERYNODE_TOKEN or --token-file keep the token out of the process list. The token of
'everynode token create' names the cluster's authority by its hash: the machine joins no
other cluster with it. A machine that has joined goes to another only with --rejoin.

Of several servers, one that answers is enough: the cluster tells the others, which are
remembered. The node's programs reach the API at a port of the loopback interface, and
the agent carries their connections to a server that works.

With --cni none the node is NotReady until you install a pod network, as a DaemonSet for
instance (docs/local-cluster.md); with --kube-proxy=false kube-proxy is yours, too. Give all nodes
of a cluster the same.`,
		Example: `  everynode agent --server https://192.0.2.10:6443 --token-file /etc/everynode/token
  everynode agent --server https://192.0.2.10:6443 --token-file /etc/everynode/token --node-labels ssd=true
  everynode agent --server https://192.0.2.10:6443,https://192.0.2.11:6443 --token-file /etc/everynode/token`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkCNI(config.CNI); err != nil {
				return err
			}
			if err := config.Check(); err != nil {
				return console.WrongCall(c, err)
			}
			config.NoKubeProxy = !kubeProxy
			var err error
			if config.Token, config.NoToken, err = agentToken(c.Flags().Changed("token"), config.Token, tokenFile); err != nil {
				return err
			}
			config.Log = slog.New(slog.NewTextHandler(terminal.Err, nil))
			defer logfile.KeepOwn(os.Stderr, filepath.Join(config.DataDir, localcluster.AgentName+".log"), config.Log)()
			return node.Run(c.Context(), config)
		},
	}
	agentFlags(c, &config, &tokenFile, &kubeProxy)
	console.CompleteWords(c, localcluster.FlagCNI, podnet.Names())
	if err := c.MarkFlagRequired("server"); err != nil {
		panic(err)
	}
	c.AddCommand(leaveCommand(terminal))
	return c
}

// kubeletUsage describes a flag that names a file of kubelet settings.
const kubeletUsage = "file of kubelet settings that differ from everynode's: a KubeletConfiguration with some of its fields"

// containerdUsage describes a flag that names a file of containerd's settings.
const containerdUsage = "file of containerd's settings, such as more runtimes, that are merged over everynode's"

func agentFlags(c *cobra.Command, config *node.Config, tokenFile *string, kubeProxy *bool) {
	f := c.Flags()
	f.StringVar(&config.DataDir, "data-dir", defaultAgentDir, "where the node's state is kept")
	f.StringVar(&config.RuntimeDir, "runtime-dir", localcluster.DefaultRuntimeDir(), "where containerd and the CNI plugins are")
	f.StringSliceVar(&config.ImageDirs, "image-dir", nil, "more folders of image archives to import at start")
	f.StringSliceVar(&config.Servers, "server", nil, "URL of the API server (required); of several, all or some")
	f.StringVar(&config.Token, "token", "", "token to join with (EVERYNODE_TOKEN)")
	console.MayBeEmpty(f, "token") // a machine that has joined starts without one, as after its service's token was deleted
	f.StringVar(tokenFile, "token-file", "", "file that holds the token")
	f.BoolVar(&config.Rejoin, "rejoin", false, "join with the token even if this machine belongs to a cluster with another authority")
	f.StringVar(&config.Name, "node-name", hostname(), "name of the node")
	f.StringVar(&config.NodeIP, "node-ip", "", "address of the node (default: the one that reaches the server)")
	f.StringVar(&config.ClusterDNS, "cluster-dns", "", "address of the cluster's DNS (default: that of the service kube-system/kube-dns)")
	networkFlags(f, &config.CNI, kubeProxy, "")
	f.StringToStringVar(&config.Labels, "node-labels", nil, "labels that the node sets on itself")
	f.StringSliceVar(&config.Taints, "node-taints", nil, "taints that a new node registers with, KEY=VALUE:EFFECT")
	f.StringToStringVar(&config.Reserved, "system-reserved", nil, "what of the machine is not for pods, such as cpu=500m,memory=1Gi")
	f.StringArrayVar(&config.RegistryConfigs, localcluster.FlagRegistries, nil, "file of registries' mirrors, certificates and passwords, in the format of k3s; of several, the first that names a host")
	f.StringVar(&config.KubeletConfig, localcluster.FlagKubelet, "", kubeletUsage)
	f.StringVar(&config.ContainerdConfig, localcluster.FlagContainerd, "", containerdUsage)
	f.StringVar(&config.ContainerRuntimeEndpoint, "container-runtime-endpoint", "", "a container runtime that is there already, as unix:///run/...")
	f.StringVar(&config.CgroupRoot, "cgroup-root", "", "cgroup below which the pods run")
	f.BoolVar(&config.StopPods, "stop-pods", false, "stop the node's pods when the agent stops")
	f.BoolVar(&config.Local, localcluster.FlagLocal, false, "the node shares this machine with others")
	for _, name := range []string{"cgroup-root", localcluster.FlagLocal} {
		if err := f.MarkHidden(name); err != nil {
			panic(err) // only if there is no such flag
		}
	}
}

// agentToken finds the token: in the flag, the file or the environment, in this
// order. A node that has joined before needs none. missing says why there is none
// where the user meant to give one.
func agentToken(given bool, flag, file string) (token, missing string, err error) {
	switch {
	case given && file != "":
		return "", "", console.Usage(errors.New("--token and --token-file exclude each other: give one of them"))
	case file != "":
		return tokenIn(file)
	}
	if token = cmp.Or(flag, os.Getenv("EVERYNODE_TOKEN")); token == "" && given {
		missing = "--token is empty"
	}
	return token, missing, nil
}

// tokenIn reads the token in a file. The one of local nodes is gone once they have
// joined, and people may delete theirs.
func tokenIn(file string) (token, missing string, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Sprintf("there is no file %s (--token-file)", file), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read the token: %w", err)
	}
	if err := datadir.CheckSecret(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("--token-file: %w", err)
	}
	if token = strings.TrimSpace(string(data)); token == "" {
		missing = fmt.Sprintf("the file %s (--token-file) is empty", file)
	}
	return token, missing, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}
