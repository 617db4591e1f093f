// Package view is the only package that knows both the API objects of Kubernetes and
// the flat values of package plan. It converts DaemonSets, nodes and pods into plan
// values, and makes pods, revisions and status from what was decided. Everything is a
// pure function of its arguments: no client, no clock, no log.
//
// What it writes must be what Kubernetes' own DaemonSet controller writes, byte for
// byte where a later reader compares bytes: revision data, names and labels, the labels
// and tolerations of pods. So a cluster can change from one controller to the other, in
// either direction, and no pod restarts.
package view
