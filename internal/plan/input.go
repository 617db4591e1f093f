package plan

import "time"

// Input is everything that a decision may depend on. Make reads it and never
// writes to it. Nodes and Pods may come in any order (I8).
type Input struct {
	// Now is the instant of the decision.
	Now time.Time
	Set Spec
	// Nodes are the nodes of the cluster, each name once.
	Nodes []Node
	// Pods are the pods that the DaemonSet controls.
	Pods []Pod
	// Gone names the nodes that are known, by a live read, to exist no more.
	Gone map[string]bool
	// Backoff holds, by node name, the back-off of pods that failed there.
	Backoff map[string]Backoff
	// Waits holds, by node name, the acts that have failed there and wait for their next try.
	Waits map[string][]Wait
	// Left names the nodes that have turned not Ready after a pod there was to be
	// deleted which has gone since, and whose successor is not there yet.
	Left map[string]bool
	// Release is the release that is under way; nil: every node is for Set.
	Release *Release
	// Reached holds, by node name, the release that has last begun to give the node its target:
	// with a Delete that Reaches, or with a Create that is not Stable.
	Reached map[string]int
	// Guard holds pods that labels or the placement would take away; nil: it does not.
	Guard *Guard
}

// Moment is a place in the order in which this process has seen things, or done
// them: the later, the larger. Zero is before the process watched. The clocks of
// other machines have no part in it, and neither has its own.
type Moment int64

// ClockMargin is how far apart the clocks of the cluster's machines may be. Of
// what came before the process watched there are only times, each by the clock
// of whoever wrote it: such a time counts as the earlier one only if it is
// earlier by more than this.
const ClockMargin = 15 * time.Minute

// Spec is what a DaemonSet asks for.
type Spec struct {
	Placement Placement
	Strategy  Strategy
	// MaxUnavailable and MaxSurge are scaled by the number of nodes that
	// should run a pod, and rounded up. Both zero means MaxUnavailable 1.
	MaxUnavailable, MaxSurge Amount
	MinReady                 time.Duration
	// Hash names the current revision; Generation is the template generation
	// of DaemonSets that still carry one, else 0. A pod is current when it has
	// either.
	Hash       string
	Generation int64
	// Halt, when not zero, stops every action and says why: the DaemonSet is
	// being deleted, its selector is empty, or it cannot be read.
	Halt Reason
	// HaltDetail says what exactly is wrong, where Halt has a subject.
	HaltDetail string
	// Scheduled says that the scheduler must bind these pods: what decides
	// their place is not in the template alone (other pods, devices, claims).
	Scheduled bool
	// Assists says that another controller creates, repairs and removes the pods. Then nothing is
	// decided but when an outdated one goes. There is no MaxSurge with it.
	Assists bool
	// Patient says that outdated pods of nodes that are down, or leave, stay until those are back: a policy has the DaemonSet, and
	// has released the revision to all other nodes.
	Patient bool
	// InPlace holds the hashes of revisions whose pods can become ones of this revision where they
	// run, since the templates differ in nothing else than what a running pod may change. Nil: the
	// DaemonSet does not ask for that.
	InPlace map[string]bool
}

// Surges says that an update starts a node's new pod beside the old one.
func (s *Spec) Surges() bool { return s.Strategy == RollingUpdate && s.MaxSurge.Value > 0 }

// Strategy says when outdated pods are replaced.
type Strategy uint8

// The strategies of apps/v1.
const (
	RollingUpdate Strategy = iota
	OnDelete
)

// Amount is a number, or a percentage of the nodes that should run a pod.
type Amount struct {
	Value   int
	Percent bool
}

// Of scales the amount by total, rounding up.
func (a Amount) Of(total int) int {
	if !a.Percent {
		return a.Value
	}
	return (a.Value*total + 99) / 100
}

// Placement is where the template lets pods run: compiled once per revision.
// The zero value admits every node without NoSchedule and NoExecute taints.
type Placement struct {
	// NodeName, when not empty, is the only node (template spec.nodeName).
	NodeName string
	// Selector must be contained in the node's labels.
	Selector map[string]string
	// Terms are the required node affinity: one of them must match. Nil means
	// no affinity; empty and not nil matches no node.
	Terms []Term
	// Tolerations include those that every daemon pod gets.
	Tolerations []Toleration
}

// Term is one node selector term: all of its requirements must hold. A term
// without requirements matches nothing.
type Term struct {
	Labels []Requirement
	// Names match metadata.name, the only field that a term may ask for, by In
	// or NotIn with one value.
	Names []Requirement
}

// Requirement is one expression of a term.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// Operator is the operator of a node selector requirement.
type Operator uint8

// The operators of core/v1. Invalid marks one that could not be read: its term
// matches nothing.
const (
	Invalid Operator = iota
	In
	NotIn
	Exists
	DoesNotExist
	Gt
	Lt
)

// Effect is the effect of a taint.
type Effect uint8

// The effects of core/v1. AnyEffect is only meant in tolerations.
const (
	AnyEffect Effect = iota
	NoSchedule
	PreferNoSchedule
	NoExecute
)

// Taint is a node's taint.
type Taint struct {
	Key, Value string
	Effect     Effect
}

// Toleration tolerates taints. An empty Key with Exists tolerates every key.
type Toleration struct {
	Key, Value string
	// Exists says that any value is tolerated.
	Exists bool
	Effect Effect
	// Compare is Gt or Lt for numeric tolerations, else Invalid.
	Compare Operator
}

// Node is what the algorithm needs to know of a node.
type Node struct {
	Name, UID string
	Labels    map[string]string
	Taints    []Taint
	Ready     bool
	// Down is when this process saw that the node was not Ready, which it has
	// not been since; zero when it has not been Ready since the process watches.
	Down Moment
	// ReadyChanged is when Ready last changed between true and not true, as
	// somebody wrote it; zero when not known.
	ReadyChanged time.Time
	// NeverReady says that the node has not been Ready since it exists.
	NeverReady bool
	// Leaving says that the node is being drained, shut down or looked after, by what it says
	// itself: nothing is to be learned from what happens there.
	Leaving bool
	// Changed is when the node was last seen to change in what others may act
	// on: its labels, its taints, whether it is ready. By the clock of Now; zero
	// when it was not seen to.
	Changed time.Time
}

// Phase is the phase of a pod.
type Phase uint8

// The phases of core/v1.
const (
	Pending Phase = iota
	Running
	Succeeded
	Failed
)

// Pod is what the algorithm needs to know of a pod. Engines keep very many: the
// small fields stand together.
type Pod struct {
	Name, UID string
	// Node is the node that the pod runs on, or is meant for while it is not
	// Bound. Empty when the pod names none.
	Node string
	// Hash and Generation are the revision that the pod was made from.
	Hash       string
	Generation int64
	// Created is by the clock of the API server.
	Created time.Time
	// SeenCreated is when this process first saw the pod, or began to create it.
	SeenCreated Moment
	// ReadySince is when the pod became ready, by the clock of Input.Now, while it is Ready. Of one
	// that WasReady and is not, it is when that was seen to end; zero: it was not seen. Of one that was
	// changed in place it is not before its new containers have started.
	ReadySince time.Time
	// Changed is when the pod was last made one of its revision by a Change, by the clock of whoever
	// did; zero: it was created as one.
	Changed time.Time
	// Settles is how long the pod must have been ready to be taken for one of its revision while it is
	// Changing; zero: it is not, however long that lasts.
	Settles time.Duration
	// Deleted is when deletion was asked for; zero while it was not. It is
	// the moment of the request, not the end of the grace period, by the clock
	// of the API server.
	Deleted time.Time
	// SeenDeleted is when this process first saw that deletion was asked for,
	// or began to ask for it, also while the outcome is Uncertain.
	SeenDeleted Moment
	Phase       Phase
	// Bound says that spec.nodeName is set.
	Bound bool
	Ready bool
	// WasReady says of a pod that is not Ready that it has been. It changes
	// the reason that is given, never what is done.
	WasReady bool
	// Forced says that deletion without a grace period was asked for: there
	// is nothing stronger left to ask.
	Forced bool
	// Refused says that the kubelet did not admit the pod, for a reason that
	// waiting could have avoided: want of room, a port in use, labels.
	Refused bool
	// Stuck says that the pod will not start, whatever time it is given: its template names what
	// there is not, or what cannot be read.
	Stuck bool
	// Restarts is how often a container of it has started again: of the one that did so most
	// often, and 255 at most.
	Restarts uint8
	// Changing says that a Change was made to the pod, and that its containers may still be those of
	// the revision before: it is not available, whatever Ready says.
	Changing bool
	// Unchangeable says that the pod cannot become one of another revision where it runs: it is not what
	// its revision says, somebody has objected, or its last change has not come through.
	Unchangeable bool
	// Uncertain says that the outcome of our last write to it is not known.
	Uncertain bool
	// Assumed says of such a pod that it is not known to exist: a create of
	// ours may have made it. It counts for everything but the status.
	Assumed bool
	// Left says that the pod ran on an earlier node of this name, which is gone:
	// no kubelet answers for it.
	Left bool
	// Newer says that the pod was made from a newer template than Set is: what
	// is known of the DaemonSet is behind what is known of the pod.
	Newer bool
	// Disruptor is who has announced that the pod will be deleted.
	Disruptor Disruptor
}

// Disruptor is who deletes a pod that is none of its own, as far as it says so
// in the pod's condition DisruptionTarget.
type Disruptor uint8

// The disruptors that Kubernetes itself has, and any other.
const (
	Unannounced Disruptor = iota
	TaintManager
	EvictionAPI
	Preemption
	PodCollector
	Kubelet
	OtherDisruptor
)

// String says who it is; empty where nobody has said so.
func (d Disruptor) String() string {
	return [...]string{"", "the taint manager", "the eviction API", "the scheduler", "the pod garbage collector", "the kubelet", "a controller"}[d]
}

// Backoff is how long the next failed pod of a node is left in place. It
// belongs to the node, not to the revision: an edit does not reset it, but an
// edit replaces a failed pod at once, because the pod is then outdated.
type Backoff struct {
	// Last is when a failed or succeeded pod was last deleted there.
	Last time.Time
	// Delay is the pause after Last.
	Delay time.Duration
	// Pod is the UID of the pod that was deleted at Last, and Created when it
	// was created. Its successor is named after it, unless the input still has
	// a newer one.
	Pod     string
	Created time.Time
	// Refused says that the kubelet did not admit this pod: the scheduler then
	// binds the successor.
	Refused bool
	// Waited is when the newest of the pods was created that were deleted
	// there, or could not be made, while they were for the scheduler to bind;
	// zero when there is none. The scheduler then binds the successor, too.
	// Heard is when the last of them went. What is known of the node is kept for as
	// long after Heard as after Last.
	Waited, Heard time.Time
	// Hash is the revision of that pod, and First when the first pod of that
	// revision was created whose end this back-off remembers; FirstSeen is when
	// this process saw that, as Pod.SeenCreated.
	Hash      string
	First     time.Time
	FirstSeen Moment
	// Remakes is the other kind of back-off: that of pods which do not last.
	Remakes Remakes
}

// ActKind is what an act does.
type ActKind uint8

// The kinds. Claiming makes a pod one of the DaemonSet, or of the present revision, or
// takes it off: no plan asks for that, it comes before.
const (
	Creating ActKind = iota
	Deleting
	Changing
	Claiming
)

// Act tells the acts of a node apart, each of which may be refused by itself.
type Act struct {
	Kind ActKind
	// Pod is the UID of the pod that it is about; empty for Creating.
	Pod string
	// Now says that it gives the pod no time to end.
	Now bool
}

// ActOf is the act of a write: a delete or a change; a create where both are nil.
func ActOf(remove *Delete, change *Change) Act {
	switch {
	case remove != nil:
		return remove.Act()
	case change != nil:
		return change.Act()
	}
	return Act{Kind: Creating}
}

// Wait is how long an act is not to be tried, because it was refused or has failed.
type Wait struct {
	Act Act
	// Until is the end; zero while it is not known. Whoever carries out a plan then
	// looks at the node again when the wait is over.
	Until time.Time
	// What was refused, and by whom, as far as that is known.
	What string
	// Pause is how long this wait is in all. It grows with each write that is refused.
	Pause time.Duration
}

// over says that the act has waited.
func (w *Wait) over(now time.Time) bool { return !w.Until.IsZero() && !w.Until.After(now) }

// Remakes counts the pods that were created on a node one soon after another,
// because each was deleted by others, or taken from the DaemonSet, as it came.
// It is of one revision: who carries out a plan forgets it with an edit of the
// template, which may be what ends the trouble.
type Remakes struct {
	// Last is when a pod was last created, and Gone when it was first seen to be no more; zero: it was not.
	Last, Gone time.Time
	// Again is how many pods before it did not last.
	Again uint8
	// By is who has deleted the last of them.
	By Disruptor
}
