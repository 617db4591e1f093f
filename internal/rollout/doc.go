// Package rollout decides how far the release of a DaemonSet may go: which nodes come first, how many may have the new
// revision now, and when the next wave opens. It knows no API, no clock and no pod. Its caller says what is seen and
// when, saves the state that it returns, and acts on that state only once it is saved.
//
// Two revisions matter. The stable one is the one with which the last release ended; the target is the one of the
// template. While they are the same, the release is Idle and everything is as without a policy, except for nodes that
// missed a release: they get its revision while nobody has paused and a window is open (Rests). A node is exposed when
// it has a pod of the target, or is about to get one.
//
// # What must hold of a release
//
// Tests of all packages use these names. "Held by" names what enforces each: the simulator (internal/sim), properties
// and scripts of this package and of package plan, and single tests of other packages where only those have the
// subject.
//
//   - R1: no more nodes are granted the target than the saved quota of the open wave. Held by: TestReleases here,
//     TestReleaseKeepsTheQuota in plan, the simulator (exposing; knows, where two lead at once; doesBeside, where
//     others leak; widens, of the quota itself).
//   - R2: nodes are granted by rank: the same nodes give the same order, whatever the order of the input. Held by:
//     TestLayout here, TestReleaseFollowsRanks in plan, the simulator (inOrder).
//   - R3: a wave opens only after the previous one has completed its soak and was approved if it requires that, and
//     only while a window is open. Held by: TestReleases here (opened), the simulator (leaves).
//   - R4: in every phase but Rolling nothing is granted. Held by: TestReleases here, TestReleaseGrants and TestReleaseKeepsTheBudget in
//     plan, the simulator (starts).
//   - R5: once a decision sees more failures than are allowed, nothing is granted until a person resumes this stop,
//     whatever happens to the nodes. Held by: TestReleases here, the simulator (goesOn).
//   - R6: after an abort, by a person or by the policy, nothing is granted. A new release begins with the first wave.
//     Held by: TestReleases here, TestReleaseGrants in plan, the simulator (starts, and in its end where a scenario
//     ends aborted), TestAbortedReleaseIsNotBegunByDeletingIt in engine.
//   - R7: the stable revision exists as long as the status names it, whatever the limit of the history. Held by:
//     TestStableRevisionIsKept and TestStableRevisionWithoutPodsIsKept in engine. The simulator has no history. Where
//     others have deleted it: TestStableRevisionIsGone.
//   - R8: a request that names another release or a wave that is not open changes nothing. The state says so if that
//     wave or release is still to come, and if a new request names a release that is over. A request that stays in an
//     object takes effect once, and is not reported in later releases. Held by: TestIgnoredRequestsChangeNothing and
//     yesterdays-release.txtar here, the simulator (asked), TestOldRequestsStayOld in engine.
//   - R9: the budget of the DaemonSet (I4 of package plan) holds over all revisions together. Held by: TestReleaseKeepsTheBudget in plan, the
//     simulator (decidedInRelease).
//   - R9b: no more nodes are under way than maxUnavailable or maxSurge, plus the forgiven ones, whether their old pods
//     serve or not. Held by: TestReleaseGrants in plan, the simulator (underWay).
//   - R10: in an hour labels and the placement take away no more pods than the policy's share, or than a person has allowed. Held by:
//     TestGuardNeverLetsMore here, TestGuardHolds in plan, the simulator (loses, keeps).
//   - R11: input that cannot be read, or contradicts itself, holds the release. Held by: TestReleases here,
//     the simulator (mayGrant, of policies), TestSeveralPolicies, TestReleaseWhoseStatusCannotBeRead and
//     TestReleaseWhosePolicyMayNotBeRead in engine.
//   - R12: deleting the policy, the annotation or the DaemonSetRollout moves no pod by itself, and neither does deleting
//     two of them. Held by: the simulator of policies (goesOn; loses, of what the guard holds) and of DaemonSetRollouts
//     (writes), TestDeletingWhatGuidesAReleaseMovesNothing and TestDeletingTheGuardMovesNothing in engine of all three,
//     TestDeletingAllThatGuidesARelease and TestDeletingTheGuardAndItsRecord of two.
//   - R13: the engine writes neither spec nor metadata of DaemonSets, nodes and policies, nor the spec of DaemonSetRollouts. Held by: its
//     role, which lets it write no such thing, and with which TestRole in compat runs it. In the simulator there is nothing
//     to check, since there is no such write: its API lets a controller write only pods, the status of the DaemonSet, and
//     the state of a release.
//   - R14: at rest nothing is written; during a release a state in which only counts change is written once in ten
//     seconds. Held by: the simulator (wrote, writes), TestReleaseGoesInWaves and TestRequestsAmongWrites in engine.
//   - R15: nothing acts on a state that is not saved. It is saved over the version that was read, so a new leader, or a
//     second one, knows at least as much as was done. Held by: the simulator (starts; startsBeside, where two lead at
//     once), TestNothingMovesBeforeItIsKept and TestWhatAnotherLeaderKeepsStays in engine.
//   - R16: only observed time counts as soak. Held by: TestReleases and TestSilenceIsNoSoak here, the simulator
//     (writes).
//   - R17: without a policy everything is as apps/v1 says. Held by: TestLedgerIsMake and all other tests of package
//     plan without a release, TestProp of the simulator, TestConditionsWithoutAPolicy in engine, and compat, which
//     compares both controllers.
//   - R18: what a node did before it went down or was drained does not stop a release, and such a node is granted
//     nothing. Held by: TestReleaseGrants and release-failures.txtar in plan, the simulator (goesOn; also
//     of nodes that are drained).
package rollout
