// Package compat has only tests. They run Kubernetes' own DaemonSet controller
// and the engine through the same scenarios, each alone on the same API server,
// and compare what they leave behind and what it cost.
//
// TestKills runs each as a process that is killed, frozen and doubled on a bad
// network, while an observer judges every change in the store.
//
// What may differ is written in docs/compared-with-kubernetes.md, and each
// difference that the tests let pass names the heading there.
package compat
