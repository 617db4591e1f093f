// Package why answers why a node has a DaemonSet's pod, or has none. It reads the objects from an API server,
// lets the engine's algorithm decide, and adds what others know: kubelets about their containers, the
// scheduler, the engine itself. It changes nothing.
package why
