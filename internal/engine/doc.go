// Package engine makes the DaemonSet plan real against any Kubernetes API
// server. It watches, keeps a compact index, asks package plan what to do,
// writes, and reports:
//
//	watch ──► index ──► plan ──► apply ──► status
//	            ▲                  │
//	            └── own writes ────┘
//
// # What must hold
//
//   - A DaemonSet is decided by one worker at a time, and while it is decided
//     none of its writes starts. So a decision sees every write before it as
//     done, as under way (which counts as unavailable), or as withdrawn.
//   - A write that the server has acknowledged is in the index before it stops
//     being under way; the watch may lag behind it, but never takes it back.
//   - A write whose outcome is not known stays under way until a live read
//     tells. Creates are keyed by name, so repeating one makes no second pod.
//   - Writes of one DaemonSet neither wait for each other nor for those of
//     another; a slot (a DaemonSet on a node) that fails waits alone.
//   - Every request ends before the leader lease can pass to another process.
//
// Locks are taken in the order applier, index; the index calls out only to the
// work queue.
package engine
