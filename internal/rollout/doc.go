// Package rollout decides how far the release of a DaemonSet may go: which nodes come
// first, how many may have the new revision now, and when the next wave opens. It knows no
// API, no clock and no pod. Its caller says what is seen and when that was, keeps the state that
// comes back, and acts on it only once it is kept.
//
// Two revisions matter. The stable one is that with which the last release ended; the
// target is that of the template. While they are the same, a release is Idle and everything is as without
// a policy, but for nodes that have missed a release: they get its revision while no person has paused and a window is open (Rests). A node is exposed when it has a pod of the target, or is about to get one.
//
// What must hold (the names are used by the tests):
//
//   - R1: no more nodes are granted the target than the quota of the open wave.
//   - R2: nodes are granted by rank: the same nodes give the same order, however they are given.
//   - R3: a wave opens only after the one before it has soaked for its whole soak, was
//     approved if it asks for that, and while a window is open.
//   - R4: in every phase but Rolling nothing is granted.
//   - R5: from the decision on that sees more failures than are allowed, nothing is granted until
//     a person says so of this stop, whatever becomes of the nodes.
//   - R6: after an abort, by a person or by itself, nothing is granted. A new release begins with the first wave.
//   - R8: a request that names another release or a wave that is not open changes nothing, and
//     one that stays in an object does its work once.
//   - R10: in an hour labels and the placement take away no more pods than the policy's share, or than a person has allowed.
//   - R11: what cannot be read, or contradicts itself, holds.
//   - R16: only time that was seen counts as soak.
//
// The other invariants of releases are about pods and objects, and are held where those are.
package rollout
