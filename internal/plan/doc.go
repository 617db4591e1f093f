// Package plan is the DaemonSet algorithm. Its decision is a value, and it does nothing else: it has no clock, no
// context, no client and no logger. Make takes one snapshot of the cluster, as flat values, and says which pods to
// create and delete, what the status is, and the reason for every node.
//
// # Shape
//
//	Input ──► Classify, node by node ──► Roll, over the totals ──► Plan
//
// Classify looks at one node and the pods of the DaemonSet there. It never spends budget: if an outdated pod could be
// replaced, it names a candidate. Roll decides from totals and candidates which of them move now. Make is the two
// together and is the specification; anything faster must agree with it. Ledger is faster: it keeps one Verdict for
// each node, and their Totals, and looks only at nodes that have changed.
//
// A node's pods go through these states. Without surge a node has one pod at a
// time; with surge the new one comes first and the old one goes last.
//
//	             create                 ready for MinReady
//	(no pod) ─────────────► starting ─────────────────────► available
//	    ▲                      │ ▲                              │
//	    │                fails │ │ back-off ends                │ outdated
//	    │                      ▼ │ (delete)                     ▼
//	    └───── gone ◄────── ended, terminating ◄─────────── waits for budget
//
// # Invariants
//
// Tests cite these numbers.
//
//	I1  A node has at most one pod of a DaemonSet that is not terminating; with MaxSurge, at most one of the old and
//	    one of the current revision. If there are more, for whatever reason, one is kept: an available one first, then
//	    one that is ready, then a bound one, because only that can run, then the oldest, which has proven itself, then
//	    the first by name. So an available pod is deleted as a duplicate only if another one is available.
//	I2  A pod is created only for a node that the template's node name, node
//	    selector, required node affinity and tolerations admit. Cordoned nodes
//	    are admitted: every daemon pod tolerates the unschedulable taint.
//	I3  A pod on a node that stops matching is deleted at once. NoSchedule keeps what runs and starts nothing;
//	    NoExecute evicts. A pod that is not bound, on a node that starts nothing, does not run. It is left for the
//	    scheduler to bind, in case the taint goes, but otherwise ignored: it does not serve, is not down, is not
//	    waited for and holds no slot of MaxSurge. So a taint that comes and goes causes no writes.
//	I4  Let B be the nodes that should run a pod, or may keep the one they hold (unless that serves nobody, and is
//	    outdated or not bound: it would not be updated), without those that I5 excuses. A rolling update deletes an
//	    available pod only if the nodes of B without an available pod, plus one, are at most MaxUnavailable. This also
//	    holds through consecutive bad updates. A pod whose last write has an unknown outcome counts as unavailable. A
//	    pod that is ready, though not yet for MinReady, is deleted only while the nodes of B without an available pod
//	    are at most MaxUnavailable. With MaxSurge, it deletes a ready pod, however short the time, only if another one
//	    of the node is available, or if the node may start no new one; in the latter case it deletes an available pod
//	    only while more nodes have an available pod than should run one. An update does not delete a pod that waits
//	    after a failed write (Wait), and such a pod takes no part of the budget.
//	I5  A node is excused if none of its pods is ready and it has not been Ready since before its old pod was deleted
//	    and its new pod created, or never. A node that turns NotReady under the new revision is not excused, nor is
//	    one that does so while its old pod ends. So a dead node never wedges a rollout, and a revision that kills
//	    nodes is stopped. Before and after mean the order in which this process has seen the events (Moment), never a
//	    comparison of two clocks; an event from before it watched that is not clearly before (ClockMargin) counts as
//	    after. A change from one way of not being Ready to another does not count as new. A failed pod that has been
//	    deleted still counts as long as its back-off is remembered, which is 30 minutes. Pods of older revisions never
//	    prevent an excuse.
//	I6  A new pod counts only after MinReady of unbroken readiness, by the clock of Now: the caller saw it become
//	    ready, or makes sure that any error is on the late side.
//	I7  OnDelete deletes no pod for being outdated.
//	I8  The same input in any order gives the same plan.
//	I9  Status equals what a full recount of the snapshot gives.
//	I10 Nothing to do means an empty plan: no creates, no deletes.
//	I11 (revisions) History keeps the limit of old revisions, and never drops
//	    one with live pods.
//	I12 One failing node never holds up another: verdicts are independent except for the budget, and a node takes none
//	    of it for a write that was refused.
//	I13 A pod made from a newer template than Set (Pod.Newer) is left alone, and so is its node, until Set has caught
//	    up, unless the node is gone. So an engine that sees the DaemonSet late does not undo what another has done.
//	I14 If pods do not last, because others delete or change them as soon as they appear, the first three are
//	    recreated at once, and each one after them waits twice as long as the one before, up to five minutes. The
//	    caller does the same with its writes, so nothing that happens in the cluster turns into a loop. A change of
//	    the node shortens the wait to ten seconds.
//
// # Releases in waves
//
// While a release is under way (Input.Release), each node is for one of two revisions: the target, if it has a pod of
// it or was granted it, and else the stable one. Everything above then applies to the revision of the node, and these
// invariants are added (the numbers are those of package rollout, which decides how far a release may go and defines
// all of them, R1 to R18):
//
//	R1  A node is granted the target only if its rank is below Quota, and no more than
//	    Quota have it then. A new node, or one that has lost its pod, gets the stable
//	    revision until its turn comes.
//	R2  Of the candidates of one kind those that come first by rank are granted.
//	R4  While Grants is false no node is granted the target; one that has it keeps it.
//	R6  While Back is true no pod of the target is created, and existing ones are outdated: I4 applies to them.
//	R9  I4 holds over all revisions together.
//	R9b No grant brings the nodes under way above the larger of MaxUnavailable and MaxSurge, plus Forgiven, whether
//	    their old pods serve or not. So if all pods of a fleet stop serving in the middle of a release, not all are
//	    replaced.
//	R10 With a guard, a pod that labels or the placement no longer admit goes only if its
//	    node is allowed to lose it, or if the taint manager evicts it anyway. Package rollout
//	    allows that.
//	R17 Without a release nothing of this has any effect.
//	R18 A node that is not Ready, or is being drained, is granted nothing, and what
//	    it did before is not a failure.
//
// The others (R3, R5, R7, R8, R11 to R16) are not about one decision: internal/rollout/doc.go lists all, and says what
// enforces each.
//
// If the two revisions select different nodes, a node is also added or dropped when its turn comes.
//
// # Updates in place
//
// If Spec.InPlace contains the revision of an outdated pod, the pod is changed in place to the current revision
// (Change) instead of being deleted. Everything above about deleting an outdated pod (I4, I7, I13, R1 to R9b) also
// applies to changing it, and these are added:
//
//	P1  A changed pod is not available while its containers may be those of the previous revision (Changing), unless
//	    it has been ready long enough to be sure (Settles). Until then it counts against the budget.
//	P2  No pod is changed to the revision that it already has. With MaxSurge, or beside another controller, no pod is changed.
//	P3  A pod that does not run, whose node is not Ready, that does not match its revision, or whose last change has
//	    not completed (Unchangeable, or still in doubt), is not changed but deleted. So all containers of a pod that
//	    is changed, and those that its kubelet may be about to start, belong to one revision, and any other
//	    container belongs to the target.
//	P4  How long a changed pod has been down is counted from its change (Changed), not from its creation.
//
// # Beside another controller
//
// If another controller creates, repairs and removes the pods, always by the template (Spec.Assists), the plan only
// decides when an outdated pod goes: I4 and R1 to R9b apply to that. A node without a live pod is exposed, because
// its next pod will have the target; exposed nodes whose turn has not come are Leaked. A release that goes back plans
// nothing, because nobody could create the pods to go back to. A pod left by an earlier node of the same name
// (Pod.Left) counts as the new node's: that controller leaves it there, and the kubelet takes it over.
//
// # Who binds
//
// A pod is bound to its node when it is created (Create.ByScheduler is false), unless Spec.Scheduled says that more
// than the template decides its place, or the last known fact about the node is that it did not accept a pod: the
// kubelet refused the newest one, or it was never bound. Then the scheduler binds the next one, and waits for what is
// missing: one pod is refused, and one waits, however long. Once a pod is bound and not refused, later pods are bound
// directly again. Backoff holds what is known about deleted pods, for 30 minutes; about a waiting pod there is
// nothing to remember. If this memory is lost, one more pod is refused, but there is no loop.
//
// # Names and late writes
//
// The caller names a pod after its purpose: DaemonSet, node, and Create.Predecessor; with surge, where pods of two
// revisions run side by side, also the revision. Then a create that is sent twice, or by two processes that disagree
// on the template, makes one pod, and the successor of a failed pod has a different name.
//
// Every promise above is about a snapshot, and holds for the cluster as far as the snapshot is true. The caller must
// know the outcome of each write, or mark the pod Uncertain until a live read that is later than the write. That is
// impossible for a request that takes effect after its error and after that live read: then a node may have a second
// pod for a while (I1), and a rollout may have as many more nodes down as there are such deletes (I4). Later
// decisions see both pods, so the surplus pod is deleted, and the end is the same.
package plan
