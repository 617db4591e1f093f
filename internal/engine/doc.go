// Package engine makes the DaemonSet plan real against any Kubernetes API
// server. It watches, keeps a compact index, asks package plan what to do,
// writes, and reports:
//
//	watch ──► index ──► plan ──► apply ──► status
//	            ▲                  │
//	            └── own writes ────┘
//
// The index marks the nodes where something has changed, for each DaemonSet that the change can
// affect. A decision looks only at those, and at nodes whose time has come; a plan.Ledger keeps
// the rest.
//
// # What must hold
//
//   - One goroutine at a time decides on a DaemonSet, and during a decision none of its writes
//     starts. So a decision sees every earlier write as done, as under way (which counts as
//     unavailable), or as withdrawn.
//
//   - A change stays marked until a decision has looked at it. A node that is marked again before
//     its writes are handed over waits for the next decision: writes must rest on what was looked
//     at.
//
//   - A write that the server has acknowledged is in the index before it stops
//     being under way; the watch may lag behind it, but never takes it back.
//
//   - A write whose outcome is not known stays under way until a live read shows it. Package
//     delivery does this, D1 to D5; the simulator runs the same code.
//
//   - Writes of one DaemonSet neither wait for each other nor for those of another; if a slot (a
//     DaemonSet on a node) fails, only that slot waits.
//
//   - A DaemonSet, a pod or a node is identified by its UID. What is under way or remembered for
//     one does not affect another with the same name; but a delete under way counts for whichever
//     DaemonSet has the pod.
//
//   - Whatever fails, the written status is true, and observedGeneration rises only to a
//     generation that was acted on.
//
//   - A failure slows down only the DaemonSet that met it. Others wait only for what nobody gets
//     from the server. A slow write holds no slot in the window for all, and a decision that
//     waits for an answer holds no seat.
//
//   - A write is sent only when it will have ended before the leader lease can pass to another
//     process. It has four seconds, which the request tells the server; a write that needs more
//     is sent again after the lease has been renewed for more than the minute that the server
//     gives itself. The term is in the lease, where other processes read it, and becomes short
//     again when the last such write is answered or can no longer take effect. A leader that is
//     cut off or frozen sends nothing; what it has sent takes effect before the next leader
//     begins, or never. A leader that stops cancels its writes, which the server is told, and
//     then releases the lease; if the answer of an earlier write was lost, it keeps the lease
//     until that write's deadline has passed.
//
//   - A new leader decides nothing before its index is as new as its lease.
//
// Locks are taken in the order applier, index; the index calls only its listener, which puts keys
// into queues.
package engine
