// Package controlplane runs a whole Kubernetes control plane in one process:
// an embedded etcd (or an existing one), the full API server, the
// controller manager without its DaemonSet controller, the scheduler, and two
// small controllers of our own that admit nodes. It makes the certificates
// and kubeconfigs that these parts and the nodes need, and the RBAC objects
// that let a node join with a bootstrap token.
//
// [Run] is the only way to start one. A process can call it once: Kubernetes keeps
// registries in package variables, so a second Run in one process fails.
//
// What must hold:
//   - etcd starts before the API server and stops after it; controllers stop
//     before the API server, so that their last writes arrive.
//   - Of these parts only the API server listens on the network. The embedded
//     etcd answers on a Unix socket in a directory that only its owner can enter.
//   - Keys are 0600, their directories 0700, and no secret reaches a log or a
//     command line.
//   - A restore replaces nothing, leaves nothing half done, and never reuses a
//     resourceVersion ([SaveSnapshot], [RestoreSnapshot]).
//   - A write that etcd has acknowledged survives every way of stopping,
//     including a full disk and kill -9.
package controlplane
