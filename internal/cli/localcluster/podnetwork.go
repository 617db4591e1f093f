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

// networkArgs are an agent's flags for the parts of the network that other software
// provides.
func networkArgs(c *local.Cluster) (args []string) {
	if c.NoCNI {
		args = append(args, "--"+FlagCNI, podnet.None)
	}
	if c.NoKubeProxy {
		args = append(args, fmt.Sprintf("--%s=false", FlagKubeProxy))
	}
	return args
}

// Lacking lists the parts of a network that the nodes do not get from everynode; "" if
// there are none.
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

// ErrNoNetwork means that a node waits until a pod network is installed.
var ErrNoNetwork = errors.New("it has no pod network yet")

// LacksNetwork reports whether a node is not Ready only because it lacks a pod
// network, by what its kubelet reported at begin or later. The kubelet passes on the
// words of the container runtime.
func LacksNetwork(n *corev1.Node, begin time.Time) bool {
	ready, why := readySince(n, begin)
	return !ready && strings.HasPrefix(why, "container runtime network not ready:")
}
