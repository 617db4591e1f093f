package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"everynode/internal/addons"
	"everynode/internal/balancer"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
	"everynode/internal/local"
	"everynode/internal/node"
)

// upOptions are what the user asks of `up`.
type upOptions struct {
	localcluster.Wanted
	simulate *simulateFlags
	detach   bool
	context  bool // put the cluster into the user's kubeconfig
}

// upFlags are the flags of `up`, as they were given.
type upFlags struct {
	upOptions
	count, config string
	dryRun        bool
	sizes         *sizeFlags
	chosen        *addonFlags
}

func (f *upFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.count, "nodes", "", "how many nodes (default 3, or those that the cluster has)")
	flags.StringVar(&f.config, "config", "", "a file that describes the cluster (docs/local-cluster.md); flags win over it; -: standard input")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&f.detach, "detach", false, "return when the nodes are ready, and leave them running")
	flags.BoolVar(&f.Engine, localcluster.FlagEngine, true, "run the DaemonSet engine in the control plane; what is chosen is kept")
	networkFlags(flags, &f.CNI, &f.KubeProxy, "; what is chosen is kept")
	flags.BoolVar(&f.Audit, localcluster.FlagAudit, false, "keep a log of who asked what of the API server; what is chosen is kept")
	flags.StringVar(&f.HostPaths, localcluster.FlagHostPaths, "", hostPathUsage+" (default warn); what is chosen is kept")
	flags.StringSliceVar(&f.Publish, localcluster.FlagPublish, nil, publishUsage+`, or "" for none; what is chosen is kept`)
	console.MayBeEmpty(flags, localcluster.FlagPublish) // nothing else takes back what was chosen
	flags.StringVar(&f.Registries, localcluster.FlagRegistries, "", "file of registries' mirrors, certificates and passwords, in the format of k3s; kept for nodes that come later")
	flags.StringVar(&f.Kubelet, localcluster.FlagKubelet, "", kubeletUsage+"; kept for nodes that come later")
	flags.StringVar(&f.Containerd, localcluster.FlagContainerd, "", containerdUsage+"; kept for nodes that come later")
	flags.BoolVar(&f.context, "set-context", true, "add the cluster to your kubeconfig (KUBECONFIG, or ~/.kube/config) as the current context")
	f.simulate, f.sizes = newSimulateFlags(flags), newSizeFlags(flags)
	f.chosen = newAddonFlags(flags, addons.Chosen(nil))
}

// read combines the flags with the file that they name, and refuses what is
// invalid before anything is changed.
func (f *upFlags) read(flags *pflag.FlagSet, stdin io.Reader) (o upOptions, err error) {
	if f.config != "" {
		file, err := readClusterFile(f.config, stdin)
		if err != nil {
			return o, err
		}
		if err := file.fill(flags); err != nil {
			return o, err
		}
		f.File = file.Nodes
	}
	o = f.upOptions
	o.Publishing, o.EngineGiven = flags.Changed(localcluster.FlagPublish), flags.Changed(localcluster.FlagEngine)
	o.AuditGiven = flags.Changed(localcluster.FlagAudit)
	o.CNIGiven, o.KubeProxyGiven = flags.Changed(localcluster.FlagCNI), flags.Changed(localcluster.FlagKubeProxy)
	var errs [3]error
	o.Nodes, errs[0] = nodeCount(f.count, f.simulate.count > 0)
	o.Size, errs[1] = f.sizes.size()
	if o.Nodes == localcluster.None {
		errs[1] = f.sizes.checkSimulated()
	}
	o.Addons, errs[2] = f.chosen.choice()
	return o, errors.Join(append(errs[:], f.simulate.check(), checkCNI(f.CNI), checkHostPaths(f.HostPaths), checkPublished(f.Publish),
		node.CheckRegistries(f.Registries), node.CheckKubeletConfig(f.Kubelet), node.CheckContainerdConfig(f.Containerd))...)
}

// nodeCount reads --nodes. 0 means that the user did not give it.
func nodeCount(flag string, simulated bool) (int, error) {
	if flag == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(flag)
	if err == nil && n == 0 && simulated {
		return localcluster.None, nil
	}
	if err != nil || n < 1 || n > local.MaxNodes {
		return 0, console.Usage(fmt.Errorf("--nodes %s: give a number from 1 to %d, or 0 together with --simulate N", flag, local.MaxNodes))
	}
	return n, nil
}

func checkPublished(publish []string) error {
	for _, p := range publish {
		if _, err := balancer.ParsePublication(p); err != nil {
			return console.Usage(fmt.Errorf("--%s: %w", localcluster.FlagPublish, err))
		}
	}
	return nil
}

func checkHostPaths(policy string) error {
	if err := controlplane.CheckHostPathPolicy(policy); err != nil {
		return console.Usage(fmt.Errorf("--%s: %w", localcluster.FlagHostPaths, err))
	}
	return nil
}
