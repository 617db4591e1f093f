// Package local makes one Linux machine look like N machines.
//
// A node consists of a network, a mount, an IPC and a UTS namespace (for its host name), pinned as files so that they
// outlive every process in them; a PID namespace with a first process, which is the node's power switch; a veth pair
// into the cluster's bridge; two cgroups; directories that show the machine's files with the node's changes laid over
// them; and directories of its own at the fixed paths where a kubelet, a container runtime and a CNI plugin expect
// them. What runs inside is up to other packages. This one sets nodes up, lets processes in (Enter), watches over
// detached processes (Spawn, Running, Stop) and removes everything again without a trace.
//
// State, and where it is kept:
//
//   - DATA/cluster.json: the cluster's identity, address ranges and nodes. It survives a reboot.
//   - /run/everynode/ID: a private tmpfs with the namespace pins. Gone after a reboot, as the namespaces are.
//   - /run/everynode/host.json: what all clusters of this machine changed on it, so that the last one undoes it.
//
// Every Ensure function may be called again at any time, and repairs what is incomplete. Every Remove function tries
// all of its steps, joins their errors, and accepts steps that are done already.
//
// everynode needs Linux 5.3 or newer: other systems have no namespaces, pidfds or nftables.
package local
