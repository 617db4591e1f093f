// Package compat holds tests only: they run Kubernetes' own DaemonSet
// controller and the engine through the same scenarios, each alone on the same
// API server, and compare what they leave behind and what it cost.
//
// What may differ is written in docs/compared-with-kubernetes.md, and each
// difference that the tests let pass names the heading there.
package compat
