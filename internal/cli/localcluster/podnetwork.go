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

// NetworkHint says what to install for the nodes' network, and with which range; "" if there is nothing to install. The
// API server reaches pods only by addresses of the cluster's range.
func NetworkHint(c *local.Cluster) string {
	lacks, in := Lacking(c.NoCNI, c.NoKubeProxy), ""
	if lacks == "" {
		return ""
	}
	if c.NoCNI {
		in = fmt.Sprintf(", with the pod range %s", c.PodCIDR)
	}
	return fmt.Sprintf("The nodes have %s: install what you want there%s (docs/local-cluster.md).", lacks, in)
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
