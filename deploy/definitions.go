// Package deploy embeds manifests that our servers install as well.
package deploy

import _ "embed"

// The CustomResourceDefinitions of releases in waves.
var (
	//go:embed helm/everynode-controller/definitions/rolloutpolicies.yaml
	RolloutPolicies []byte
	//go:embed helm/everynode-controller/definitions/daemonsetrollouts.yaml
	DaemonSetRollouts []byte
)

// RolloutPeople is what people may do with releases.
//
//go:embed rbac/people.yaml
var RolloutPeople []byte
