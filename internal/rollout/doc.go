// Package rollout decides how far the release of a DaemonSet may go: which nodes come
// first, how many may have the new revision now, and when the next wave opens. It knows no
// API, no clock and no pod. Its caller says what is seen and when that was, keeps the state that
// comes back, and acts on it only once it is kept.
//
// Two revisions matter. The stable one is that with which the last release ended; the
// target is that of the template. While they are the same, a release is Idle and everything is as without
// a policy, but for nodes that have missed a release: they get its revision while no person has paused and a window is open (Rests). A node is exposed when it has a pod of the target, or is about to get one.
//
// # What must hold of a release
//
// Tests of all packages use these names. After each stands what holds it: the simulator (internal/sim), properties and scripts of this package
// and of package plan, and single tests of others where only they have what it is about.
//
//   - R1: no more nodes are granted the target than the quota that is kept of the open wave. Held by: TestReleases here,
//     TestReleaseKeepsTheQuota in plan, the simulator (exposing; knows, where two lead at once; doesBeside, where others leak).
//   - R2: nodes are granted by rank: the same nodes give the same order, however they are given. Held by: TestLayout here,
//     TestReleaseFollowsRanks in plan.
//   - R3: a wave opens only after the one before it has soaked for its whole soak, was
//     approved if it asks for that, and while a window is open. Held by: TestReleases here (opened).
//   - R4: in every phase but Rolling nothing is granted. Held by: TestReleases here, TestReleaseGrants and TestReleaseKeepsTheBudget in
//     plan, the simulator (starts).
//   - R5: from the decision on that sees more failures than are allowed, nothing is granted until
//     a person says so of this stop, whatever becomes of the nodes. Held by: TestReleases here, the simulator (goesOn).
//   - R6: after an abort, by a person or by itself, nothing is granted. A new release begins with the first wave. Held by: TestReleases
//     here, TestReleaseGrants in plan, the simulator (starts, and in its end where a scenario ends aborted),
//     TestAbortedReleaseIsNotBegunByDeletingIt in engine.
//   - R7: the stable revision is there as long as the status names it, whatever the limit of the history. Held by: TestStableRevisionIsKept
//     and TestStableRevisionWithoutPodsIsKept in engine. The simulator has no history. Where others have deleted it: TestStableRevisionIsGone.
//   - R8: a request that names another release or a wave that is not open changes nothing, and the state says so of one that is to come;
//     one that stays in an object does its work once. Held by: TestIgnoredRequestsChangeNothing here, the simulator (asked),
//     TestOldRequestsStayOld in engine.
//   - R9: the budget of the DaemonSet (I4 of package plan) holds over all revisions together. Held by: TestReleaseKeepsTheBudget in plan, the
//     simulator (decidedInRelease).
//   - R9b: no more nodes are under way than maxUnavailable or maxSurge, and who was forgiven, whether their old pods serve or not. Held by:
//     TestReleaseGrants in plan.
//   - R10: in an hour labels and the placement take away no more pods than the policy's share, or than a person has allowed. Held by:
//     TestGuardNeverLetsMore here, TestGuardHolds in plan, the simulator (loses, keeps).
//   - R11: what cannot be read, or contradicts itself, holds. Held by: TestReleases here, TestSeveralPolicies,
//     TestReleaseWhoseStatusCannotBeRead and TestReleaseWhosePolicyMayNotBeRead in engine.
//   - R12: to delete the policy, the annotation or the DaemonSetRollout moves no pod by itself. Held by: the simulator of policies (goesOn; loses,
//     of what the guard holds), TestDeletingWhatGuidesAReleaseMovesNothing and TestDeletingTheGuardMovesNothing in engine of all three.
//   - R13: the engine writes neither spec nor metadata of DaemonSets, nodes and policies, nor the spec of DaemonSetRollouts. Held by: its
//     role, which lets it write no such thing, and with which TestRole in compat runs it. The simulator's API has no such writes.
//   - R14: at rest nothing is written; in a release a state that only counts on is written once in ten seconds. Held by: the simulator (wrote,
//     writes), TestReleaseGoesInWaves and TestRequestsAmongWrites in engine.
//   - R15: nothing is done by a state that is not kept. It is kept over the version that was read, so a new leader, or a second one, knows at
//     least as much as was done. Held by: the simulator (starts; startsBeside, where two lead at once), TestNothingMovesBeforeItIsKept and
//     TestWhatAnotherLeaderKeepsStays in engine.
//   - R16: only time that was seen counts as soak. Held by: TestReleases and TestSilenceIsNoSoak here, the simulator (writes).
//   - R17: without a policy all is as apps/v1 says. Held by: TestLedgerIsMake and all other tests of package plan without a release, TestProp of the
//     simulator, TestConditionsWithoutAPolicy in engine, and compat, which compares both controllers.
//   - R18: a node that is down, or being drained, does not stop a release by what it did before, and is granted nothing. Held by:
//     TestReleaseGrants and release-failures.txtar in plan, the simulator (goesOn; its nodes are not drained).
package rollout
