// Package engine makes the DaemonSet plan real against any Kubernetes API
// server. It watches, keeps a compact index, asks package plan what to do,
// writes, and reports:
//
//	watch ──► index ──► plan ──► apply ──► status
//	            ▲                  │
//	            └── own writes ────┘
//
// The index marks the nodes where something has changed, for each DaemonSet that
// it can matter to. A decision looks at those alone, and at those whose time has
// come; a plan.Ledger keeps the rest.
//
// # What must hold
//
//   - A DaemonSet is decided by one goroutine at a time, and while it is decided
//     none of its writes starts. So a decision sees every write before it as
//     done, as under way (which counts as unavailable), or as withdrawn.
//
//   - What has changed is marked until a decision has looked at it. A node that
//     is marked again before its writes are handed over waits for the next one:
//     writes rest on what was looked at.
//
//   - A write that the server has acknowledged is in the index before it stops
//     being under way; the watch may lag behind it, but never takes it back.
//
//   - A write whose outcome is not known stays under way until a live read
//     tells. How that goes is package delivery's, D1 to D5; the simulator runs the
//     same code.
//
//   - Writes of one DaemonSet neither wait for each other nor for those of
//     another; a slot (a DaemonSet on a node) that fails waits alone.
//
//   - A DaemonSet, a pod, a node is its UID. What is under way or remembered of
//     one is nothing to another that has its name; but a delete under way counts
//     for whoever has the pod.
//
//   - Whatever fails, the status that is written says what is known, and
//     observedGeneration rises only with what was acted upon.
//
//   - A failure costs the DaemonSet that met it. Others wait only for what nobody
//     gets from the server. A write that takes long holds no room in the window
//     for all, a decision that waits for an answer no seat among the others.
//
//   - A write is sent only when it will have ended before the leader lease can pass
//     to another process. It has four seconds, and is told so to the server; one
//     that needs more is sent again when the lease has been renewed for more than
//     the minute that the server gives itself. The term stands in the lease, where
//     the others read it, and is short again when the last such write is answered
//     or can take effect no more. A leader that is cut off or stands still sends
//     nothing; what it has sent takes effect before the next leader begins, or
//     never. One that stops ends its writes, which the server is told, and then
//     releases the lease; a write that was lost before keeps the lease until its
//     deadline has passed.
//
//   - A new leader decides nothing before its index is as new as its lease.
//
// Locks are taken in the order applier, index; the index calls out only to its
// listener, which puts things into queues.
package engine
