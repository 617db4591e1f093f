package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/local"
	"everynode/internal/node"
)

// What of a node's network is somebody else's.
const (
	cniFlag       = "cni"
	kubeProxyFlag = "kube-proxy"
)

// networkFlags adds the flags about the pod network. What they say more is kept is
// added to what they say.
func networkFlags(f *pflag.FlagSet, cni *string, kubeProxy *bool, more string) {
	f.StringVar(cni, cniFlag, node.CNIEverynode, "pod network: everynode's own, or none, for one that you install"+more)
	f.BoolVar(kubeProxy, kubeProxyFlag, true, "run kube-proxy on the nodes; false: you install it, or what stands in for it"+more)
}

func checkCNI(name string) error {
	if err := node.CheckCNI(name); err != nil {
		return console.Usage(fmt.Errorf("--%s %s: %w%s", cniFlag, name, err, console.DidYouMean(name, node.CNIs())))
	}
	return nil
}

// chooseNetwork records which pod network the nodes have, and whether they run
// kube-proxy. Nodes that run keep what they were started with.
func (m *machine) chooseNetwork(o upOptions) error {
	noCNI, noKubeProxy := o.network(m.Cluster)
	if noCNI == m.NoCNI && noKubeProxy == m.NoKubeProxy {
		return nil
	}
	if m.Loopback {
		return fmt.Errorf("--%s and --%s: simulated nodes have no network: leave them out", cniFlag, kubeProxyFlag)
	}
	if _, runs := datadir.Running(m.serverLock()); runs || m.nodeRuns() {
		return fmt.Errorf("the cluster runs with --%s=%s --%s=%v: stop it with `everynode down` to change that", cniFlag, map[bool]string{true: node.CNINone, false: node.CNIEverynode}[m.NoCNI], kubeProxyFlag, !m.NoKubeProxy)
	}
	m.NoCNI, m.NoKubeProxy = noCNI, noKubeProxy
	return nil
}

// networkArgs tell an agent what is somebody else's.
func (m *machine) networkArgs() (args []string) {
	if m.NoCNI {
		args = append(args, "--"+cniFlag, node.CNINone)
	}
	if m.NoKubeProxy {
		args = append(args, fmt.Sprintf("--%s=false", kubeProxyFlag))
	}
	return args
}

// network is what was asked for of the network, or else what the cluster has.
func (o upOptions) network(c *local.Cluster) (noCNI, noKubeProxy bool) {
	noCNI, noKubeProxy = c.NoCNI, c.NoKubeProxy
	if o.cniGiven {
		noCNI = o.cni == node.CNINone
	}
	if o.kubeProxyGiven {
		noKubeProxy = !o.kubeProxy
	}
	return noCNI, noKubeProxy
}

// lacking is what of a network the nodes get from nobody, in words; "" when they lack
// nothing.
func lacking(noCNI, noKubeProxy bool) string {
	var parts []string
	if noCNI {
		parts = append(parts, "no pod network")
	}
	if noKubeProxy {
		parts = append(parts, "no kube-proxy")
	}
	return strings.Join(parts, " and ")
}

// errNoNetwork says that a node waits for somebody to install a pod network.
var errNoNetwork = errors.New("it has no pod network yet")

// lacksNetwork says whether a pod network is all that a node lacks to be Ready, as the
// kubelet has handed the container runtime's words on, at begin or later.
func lacksNetwork(n *corev1.Node, begin time.Time) bool {
	ready, why := readySince(n, begin)
	return !ready && strings.HasPrefix(why, "container runtime network not ready:")
}
