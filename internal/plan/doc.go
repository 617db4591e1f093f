// Package plan is the DaemonSet algorithm. It decides into a value and does
// nothing else: no clock, no context, no client, no logger. Make takes one
// snapshot of the cluster, as flat values, and says which pods to create and
// delete, what the status is, and for every node why.
//
// # Shape
//
//	Input ──► Classify, node by node ──► Roll, over the totals ──► Plan
//
// Classify looks at one node and the pods of the DaemonSet there. It never
// spends budget: where an outdated pod could be replaced it names a candidate.
// Roll turns totals and candidates into the ones that move now. Make is the two
// together and is the specification; anything faster must agree with it. Ledger
// is faster: it keeps one Verdict for each node, and their Totals, and looks only
// at the nodes that have changed.
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
//	I1  A node has at most one pod of a DaemonSet that is not terminating; with
//	    MaxSurge, at most one of the old and one of the current revision. Of
//	    more, however they came about, one is kept: an available one before
//	    others, then one that is ready, then a bound one, as only that can run, then the oldest, which
//	    has proven itself, then the first by name. So an available pod is never
//	    deleted as a duplicate but beside another one.
//	I2  A pod is created only for a node that the template's node name, node
//	    selector, required node affinity and tolerations admit. Cordoned nodes
//	    are admitted: every daemon pod tolerates the unschedulable taint.
//	I3  A pod on a node that stops matching is deleted at once. NoSchedule
//	    keeps what runs and starts nothing; NoExecute evicts. A pod that is not
//	    bound, on a node that starts nothing, does not run. It is left for the
//	    scheduler to bind, should the taint go, but is as good as not there: it
//	    serves nobody, is not down, is not waited for and holds no slot of
//	    MaxSurge. So a taint that comes and goes writes nothing.
//	I4  Let B be the nodes that should run a pod, or may keep the one they
//	    hold (unless that serves nobody, and is outdated or not bound: it would
//	    not be updated), without those that I5 excuses. A rolling update deletes an
//	    available pod only if the nodes of B without an available pod, plus
//	    one, are at most MaxUnavailable; also through consecutive bad updates.
//	    A pod whose last write has an unknown outcome counts as unavailable.
//	    One that is ready, though not yet for MinReady, is deleted only while
//	    the nodes of B without an available pod are at most MaxUnavailable.
//	    With MaxSurge, it deletes a pod that is ready, for however short a
//	    time, only if another one of the node is available, or if the node may
//	    start no new one; an available one then only while more nodes have an
//	    available pod than should run one. What waits after a write that failed
//	    (Wait) is deleted by no update, and takes no part of the budget for it.
//	I5  Excused is a node none of whose pods is ready and that has not been
//	    Ready since before its old pod was deleted and its new pod created, or
//	    never.
//	    A node that turns NotReady under the new revision is not excused, nor
//	    is one that does while its old pod ends. So a dead node never wedges a
//	    rollout, and a revision that kills nodes is stopped. Before and after
//	    are in the order in which the process has seen them (Moment), never by
//	    two clocks; of what came before it watched, what is not clearly before
//	    (ClockMargin) is after. That a node changes between one way of not
//	    being Ready and another is nothing new. A failed pod that is gone was
//	    part of this as long as its back-off is remembered, which is 30
//	    minutes. What an older revision did is not a reason not to excuse.
//	I6  A new pod counts only after MinReady of unbroken readiness, by the
//	    clock of Now: the shell saw it become ready, or makes sure that it errs
//	    to too late.
//	I7  OnDelete deletes no pod for being outdated.
//	I8  The same input in any order gives the same plan.
//	I9  Status equals what a full recount of the snapshot gives.
//	I10 Nothing to do means an empty plan: no creates, no deletes.
//	I11 (revisions) History keeps the limit of old revisions, and never drops
//	    one with live pods.
//	I12 One failing node never holds up another: verdicts are independent but
//	    for the budget, and of that a node takes none for what was refused there.
//	I13 A pod that was made from a newer template than Set is (Pod.Newer) is
//	    left alone, and so is its node, until Set has caught up; only where the
//	    node is gone nothing is left to wait for. So one that sees the DaemonSet
//	    late does not undo what another has done.
//	I14 Where pods do not last, because others delete or change them as they
//	    come, the first three are created again at once, and each one after
//	    them waits twice as long as the one before, up to five minutes. Who
//	    carries out a plan keeps to the same with its writes, so nothing that
//	    the world does turns into a loop. A change of the node shortens the
//	    wait to ten seconds.
//
// # Releases in waves
//
// While a release is under way (Input.Release), each node is for one of two revisions:
// the target, if it has a pod of it or was granted it, and else the stable one. All
// of the above then holds of the revision that the node is for, with these in addition
// (the numbers are those of package rollout, which decides how far a release may go; all of them, R1 to R18, are defined there):
//
//	R1  A node is granted the target only if its rank is below Quota, and no more than
//	    Quota have it then. A new node, or one that has lost its pod, gets the stable
//	    revision until its turn comes.
//	R2  Of the candidates of one kind those that come first by rank are granted.
//	R4  While Grants is false no node is granted the target; one that has it keeps it.
//	R6  While Back is true no pod of the target is created, and those that are there
//	    are outdated: I4 holds for them.
//	R9  I4 holds over all revisions together.
//	R9b No grant makes more nodes be under way than the larger of MaxUnavailable and
//	    MaxSurge, and Forgiven, whether their old pods serve or not. So when all pods
//	    of a fleet stop serving in the middle of a release, not all are replaced.
//	R10 With a guard, a pod that labels or the placement no longer admit goes only if its
//	    node is allowed to lose it. Package rollout allows that.
//	R17 Without a release nothing of this has any effect.
//	R18 A node that is not Ready, or is being drained, is granted nothing, and what
//	    it did before is not a failure.
//
// Where the two revisions are for different nodes, a node is added or dropped when its turn
// comes, too.
//
// # Updates in place
//
// Where Spec.InPlace holds the revision of an outdated pod, the pod is made one of the current revision where it runs (Change),
// instead of being deleted. What is said above of deleting an outdated pod (I4, I7, I13, R1 to R9b) holds of changing
// it, with these in addition:
//
//	P1  A pod that was changed is not available while its containers may be those of the revision before (Changing), unless
//	    it has been ready for as long as it takes to be sure (Settles). Until then it takes its part of the budget.
//	P2  No pod is changed to the revision that it is of. With MaxSurge none is, and beside another controller none is.
//	P3  A pod that does not run, whose node is not Ready, that is not what its revision says, or whose last change has not
//	    come through (Unchangeable, or still in doubt), is not changed but deleted. So all containers of a pod that is
//	    changed, and those that its kubelet may be about to start, are of one revision, and what is not that is the target's.
//	P4  How long a changed pod has been down counts from its change (Changed), not from when it was created.
//
// # Beside another controller
//
// Where another controller creates, repairs and removes the pods, always by the template (Spec.Assists), all
// that is planned is when an outdated pod goes: I4 and R1 to R9b hold of that. A node without a live pod is exposed,
// since the next one is of the target; exposed nodes whose turn has not come are Leaked. A release that goes
// back plans nothing, as nobody could create what goes back. A pod that an earlier node of the same name has left
// (Pod.Left) counts as the new node's: that controller leaves it there, and the kubelet takes it over.
//
// # Who binds
//
// A pod is bound to its node when it is created (Create.ByScheduler is false),
// unless Spec.Scheduled says that more than the template decides its place, or
// the last that is known of the node is that it did not take a pod: the newest
// one was refused by the kubelet, or was never bound. Then the scheduler binds
// the next one, and waits for what is missing: one pod is refused, and one waits,
// however long. A pod that was bound, and not refused, gives the node back.
// Backoff holds what is known of pods that are gone, for 30 minutes; of a pod
// that waits there is nothing to remember. Who has forgotten has one more pod
// refused, no loop.
//
// # Names and late writes
//
// Whoever carries out a plan names a pod after what it is for: DaemonSet, node,
// and Create.Predecessor; with surge, where pods of two revisions stand side by
// side, also the revision. Then a create that is sent twice, or by two who
// disagree on the template, makes one pod, and the successor of a failed pod has
// a name of its own.
//
// Every promise above is about a snapshot, and holds of the cluster as far as
// the snapshot does. Its owner must know the end of each write, or mark the pod
// Uncertain until a live read that is later than the write. Nobody can do so
// for a request that takes effect after its error, and after that live read:
// then a node may have a second pod for a while (I1), and a rollout as many more
// nodes down as there are such deletes (I4). What follows is decided on what is
// seen, so that the pod which is one too many goes, and the end is the same.
package plan
