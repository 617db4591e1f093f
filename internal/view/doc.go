// Package view is the one place that knows both worlds: the API objects of
// Kubernetes and the flat values of package plan. It reads DaemonSets, nodes
// and pods into plan values, and writes pods, revisions and status from what
// was decided. Everything is a pure function of its arguments: no client, no
// clock, no log.
//
// What it writes must be what Kubernetes' own DaemonSet controller writes, to
// the byte where a later reader compares bytes: revision data, names and
// labels, the labels and tolerations of pods. A cluster can then change from
// one controller to the other, in either direction, and no pod restarts.
package view
