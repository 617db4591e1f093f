// Package fleet simulates nodes: Node objects that nothing runs behind, with
// heartbeats, and pods that start, become ready, fail and stop as they are told
// to. A rollout over a thousand of them shows what it will do before it is done
// to real ones.
//
// Every Node with the label everynode.io/simulated=true is simulated, whoever
// made it. Nothing is kept but what the API server keeps: a Run that starts again
// goes on where the last one was.
//
// Fates are drawn, not rolled: the same seed, DaemonSet, node and images always
// give the same delays and the same failure. So a trial can be repeated, and a
// new image version has new luck.
package fleet
