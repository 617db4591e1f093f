// Package policies has the admission policies that a cluster may install, as they
// are in this folder for `kubectl apply`.
package policies

import _ "embed"

// HostPaths is what pods may do to a machine by way of hostPath volumes, a
// ValidatingAdmissionPolicy. It does nothing without one of its bindings, which
// have the same name as each other: the second to be applied takes the place of the
// first. HostPathsWarn tells, HostPathsReadOnly refuses.
var (
	//go:embed host-paths.yaml
	HostPaths []byte
	//go:embed host-paths-warn.yaml
	HostPathsWarn []byte
	//go:embed host-paths-readonly.yaml
	HostPathsReadOnly []byte
)
