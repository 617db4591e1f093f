// Package policies embeds the admission policies that a cluster may install, as they
// are in this folder for `kubectl apply`.
package policies

import _ "embed"

// HostPaths is a ValidatingAdmissionPolicy about what pods may do to a machine through
// hostPath volumes. It does nothing without one of its bindings, which have the same
// name: the one that is applied last replaces the other. HostPathsWarn warns,
// HostPathsReadOnly refuses.
var (
	//go:embed host-paths.yaml
	HostPaths []byte
	//go:embed host-paths-warn.yaml
	HostPathsWarn []byte
	//go:embed host-paths-readonly.yaml
	HostPathsReadOnly []byte
)
