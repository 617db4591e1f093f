// Package fleet simulates nodes. Their Node objects have heartbeats but no machine behind them,
// and their pods start, become ready, fail and stop as they are told to. A rollout over a
// thousand of them shows what it will do to real ones.
//
// Every Node with the label everynode.io/simulated=true is simulated, whoever made it. All state
// is in the API server: a Run that starts again goes on where the last one ended.
//
// Fates are drawn, not rolled: the same seed, DaemonSet, node and images always give the same
// delays and the same failure. So a trial can be repeated, and a new image version is drawn
// again.
package fleet
