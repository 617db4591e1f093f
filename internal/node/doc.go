// Package node makes one machine, or one pair of network and mount namespaces,
// a Kubernetes node.
//
// Run is the agent. It checks the machine, joins the cluster with a bootstrap
// token when it has no credentials yet, writes the configuration of its three
// children and supervises them:
//
//	agent ─┬─ containerd            own root, state and socket below DataDir
//	       ├─ everynode kubelet     registers the Node, runs its pods
//	       └─ everynode kube-proxy  service addresses, by nftables
//
// All of them reach the API through the agent, at a port of the loopback interface. The agent
// carries their connections to a server that works, and learns from the cluster which servers
// there are (package upstream).
//
// The children die with the agent (parent death signal). Containers do not: their shims are not
// children of the agent, and the next containerd finds them again. The agent itself keeps the
// pod network (package podnet): the CNI configuration for the node's pod range, routes to the
// other nodes' pod ranges, and masquerading for traffic that leaves them.
//
// Everything acts on the namespaces of the calling process. To run several nodes on one
// machine, the caller enters the namespaces of each node first.
package node
