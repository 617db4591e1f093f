package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/local"
	"everynode/internal/node"
)

// upOptions are what `up` was asked for.
type upOptions struct {
	nodes          int // real ones; 0: not said, none: none at all
	simulate       *simulateFlags
	size           local.Size // of nodes that are new
	file           []fileNode // nodes by name; with them, nodes is 0
	registries     string     // file; "": as it was
	kubelet        string     // file of its settings; "": as it was
	publish        []string
	publishing     bool // publish was given
	detach         bool
	engine         bool // the control plane has the DaemonSet engine inside
	engineGiven    bool
	cni            string // the nodes' pod network
	cniGiven       bool
	kubeProxy      bool // the nodes run kube-proxy
	kubeProxyGiven bool
	audit          bool // the control plane keeps an audit log
	auditGiven     bool
	addons         map[string]bool // what was said of them, by name
	hostPaths      string          // what becomes of pods with hostPath volumes; "": as it was
	context        bool            // put the cluster into the user's kubeconfig
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
	flags.BoolVar(&f.engine, daemonSetFlag, true, "run the DaemonSet engine in the control plane; what is chosen is kept")
	networkFlags(flags, &f.cni, &f.kubeProxy, "; what is chosen is kept")
	flags.BoolVar(&f.audit, auditFlag, false, "keep a log of who asked what of the API server; what is chosen is kept")
	flags.StringVar(&f.hostPaths, hostPathFlag, "", hostPathUsage+" (default warn); what is chosen is kept")
	flags.StringSliceVar(&f.publish, publishFlag, nil, publishUsage+"; what is chosen is kept")
	flags.StringVar(&f.registries, registryFlag, "", "file of registries' mirrors, certificates and passwords, in the format of k3s; kept for nodes that come later")
	flags.StringVar(&f.kubelet, kubeletFlag, "", kubeletUsage+"; kept for nodes that come later")
	flags.BoolVar(&f.context, "set-context", true, "add the cluster to your kubeconfig (KUBECONFIG, or ~/.kube/config) as the current context")
	f.simulate, f.sizes = newSimulateFlags(flags), newSizeFlags(flags)
	f.chosen = newAddonFlags(flags, addons.Chosen(nil))
}

// read makes options of the flags and of the file that they name, and refuses what
// cannot be before anything is done.
func (f *upFlags) read(flags *pflag.FlagSet, stdin io.Reader) (o upOptions, err error) {
	if f.config != "" {
		file, err := readClusterFile(f.config, stdin)
		if err != nil {
			return o, err
		}
		if err := file.fill(flags); err != nil {
			return o, err
		}
		f.file = file.Nodes
	}
	o = f.upOptions
	o.publishing, o.engineGiven = flags.Changed(publishFlag), flags.Changed(daemonSetFlag)
	o.auditGiven = flags.Changed(auditFlag)
	o.cniGiven, o.kubeProxyGiven = flags.Changed(cniFlag), flags.Changed(kubeProxyFlag)
	var errs [3]error
	o.nodes, errs[0] = nodeCount(f.count, f.simulate.count > 0)
	o.size, errs[1] = f.sizes.size()
	o.addons, errs[2] = f.chosen.choice()
	return o, errors.Join(append(errs[:], f.simulate.check(), checkCNI(f.cni), checkHostPaths(f.hostPaths), checkPublished(f.publish), node.CheckRegistries(f.registries), node.CheckKubeletConfig(f.kubelet))...)
}

// none is a number of nodes that says: no real ones.
const none = -1

// nodeCount reads --nodes; 0 means that it was not given.
func nodeCount(flag string, simulated bool) (int, error) {
	if flag == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(flag)
	if err == nil && n == 0 && simulated {
		return none, nil
	}
	if err != nil || n < 1 || n > local.MaxNodes {
		return 0, console.Usage(fmt.Errorf("--nodes %s: give a number from 1 to %d, or 0 together with --simulate N", flag, local.MaxNodes))
	}
	return n, nil
}
