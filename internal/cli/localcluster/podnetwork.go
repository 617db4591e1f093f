package localcluster

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/local"
	"everynode/internal/node/podnet"
)

// networkArgs tell an agent what is somebody else's.
func networkArgs(c *local.Cluster) (args []string) {
	if c.NoCNI {
		args = append(args, "--"+FlagCNI, podnet.None)
	}
	if c.NoKubeProxy {
		args = append(args, fmt.Sprintf("--%s=false", FlagKubeProxy))
	}
	return args
}

// Lacking is what of a network the nodes get from nobody, in words; "" when they lack
// nothing.
func Lacking(noCNI, noKubeProxy bool) string {
	var parts []string
	if noCNI {
		parts = append(parts, "no pod network")
	}
	if noKubeProxy {
		parts = append(parts, "no kube-proxy")
	}
	return strings.Join(parts, " and ")
}

// ErrNoNetwork says that a node waits for somebody to install a pod network.
var ErrNoNetwork = errors.New("it has no pod network yet")

// LacksNetwork says whether a pod network is all that a node lacks to be Ready, as the
// kubelet has handed the container runtime's words on, at begin or later.
func LacksNetwork(n *corev1.Node, begin time.Time) bool {
	ready, why := readySince(n, begin)
	return !ready && strings.HasPrefix(why, "container runtime network not ready:")
}
