// Package why answers why a node has a DaemonSet's pod, or has none. It asks an
// API server for what there is, has the engine's algorithm decide over it, and
// adds what only others know: the kubelet about containers, the scheduler, the
// engine itself. It changes nothing.
package why
