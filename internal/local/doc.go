// Package local makes one Linux machine look like N machines.
//
// A node is a network, a mount, an IPC and a UTS namespace (for its host name), pinned as files so that they outlive
// every process in them; a PID namespace with a first process, which is the node's power; a veth pair into the cluster's
// bridge; two cgroups; directories that are the machine's with what the node changes laid over them; and directories of
// its own over the paths that a kubelet, a container runtime and a CNI plugin expect at fixed places. What runs
// inside is another package's business: this one builds the house, lets processes in (Enter), watches over detached
// processes (Spawn, Running, Stop) and tears everything down again without a trace.
//
// What is remembered, and where:
//
//   - DATA/cluster.json: the cluster's identity, address ranges and nodes. It survives a reboot.
//   - /run/everynode/ID: a private tmpfs with the namespace pins. Gone after a reboot, as the namespaces are.
//   - /run/everynode/host.json: what all clusters of this machine changed on it, so that the last one undoes it.
//
// Every Ensure function may be called again at any time, and repairs what is half made. Every Remove function tries
// all of its steps, joins their errors, and accepts that a step is done already.
//
// everynode needs Linux 5.3 or newer: namespaces, pidfds and nftables have no counterpart elsewhere.
package local
