// Package fleet simulates nodes. Their Node objects have heartbeats but no machine behind them, and their
// pods start, become ready, fail and stop as the rules say. A rollout over a thousand of them shows what it
// will do to real ones.
//
// Every Node with the label everynode.io/simulated=true is simulated, whoever created it. All state is in the
// API server: a Run that starts again continues where the last one ended.
//
// Fates are hashes, not random numbers: the same seed, DaemonSet, node and images always give the same delays
// and the same failure. So a trial can be repeated, and a new image version has a new fate.
package fleet
