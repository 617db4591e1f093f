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
	// Gone is the set of names of nodes that no longer exist according to a live read.
	Gone map[string]bool
	// Backoff has, by node name, the back-off of pods that failed there.
	Backoff map[string]Backoff
	// Waits has, by node name, the writes that have failed there and wait for their next try.
	Waits map[string][]Wait
	// Left is the set of names of nodes that turned not Ready after the deletion of a pod there began, where
	// that pod is gone and its successor does not exist yet.
	Left map[string]bool
	// Release is the release that is under way; nil: every node is for Set.
	Release *Release
	// Reached has, by node name, the last release that has begun to give the node its target: with a Delete
	// or Change that Reaches, or with a Create that is not Stable, and that was not refused beside an old pod.
	Reached map[string]int
	// Refused has, by node name, that the API server refuses pods of the release's target there.
	Refused map[string]Refusal
	// Guard holds pods that labels or the placement would remove; nil: nothing does.
	Guard *Guard
}

// Moment is a position in the order in which this process has seen or caused events: later ones are
// larger. Zero is before the process watched. It does not depend on the clock of any machine.
type Moment int64

// ClockMargin is how far apart the clocks of the cluster's machines may be. Events from before the
// process watched have only times, each by the clock of its writer: such a time counts as the earlier
// one only if it is earlier by more than this.
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
	// Halt, if not zero, stops every action and says why: the DaemonSet is being deleted, its selector is
	// empty, or it cannot be read.
	Halt Reason
	// HaltDetail says what exactly is wrong, if Halt has a subject.
	HaltDetail string
	// Scheduled means that the scheduler must bind these pods, because their place depends on more than the
	// template (other pods, devices, claims).
	Scheduled bool
	// Assists means that another controller creates, repairs and removes the pods. Then the plan only decides
	// when an outdated pod goes. It excludes MaxSurge.
	Assists bool
	// Patient means that outdated pods of nodes that are down, or leaving, stay until those nodes are back:
	// the DaemonSet follows a policy, which has released the revision to all other nodes.
	Patient bool
	// InPlace is the set of hashes of revisions whose pods can be changed in place to this revision, because
	// the templates differ only in what may change in a running pod. Nil: the DaemonSet does not ask for
	// that.
	InPlace map[string]bool
}

// Surges reports whether an update starts a node's new pod beside the old one.
func (s *Spec) Surges() bool { return s.Strategy == RollingUpdate && s.MaxSurge.Value > 0 }

// Strategy is when outdated pods are replaced.
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
	// Tolerations include those that every DaemonSet pod gets.
	Tolerations []Toleration
}

// Term is one node selector term: all of its requirements must hold. A term
// without requirements matches nothing.
type Term struct {
	Labels []Requirement
	// Names match metadata.name, the only field that a term may ask for, by In or NotIn with one value.
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

// The effects of core/v1. AnyEffect is only for tolerations.
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
	// Exists means that any value is tolerated.
	Exists bool
	Effect Effect
	// Compare is Gt or Lt for numeric tolerations, else Invalid.
	Compare Operator
}

// Node is what the algorithm needs to know about a node.
type Node struct {
	Name, UID string
	Labels    map[string]string
	Taints    []Taint
	Ready     bool
	// Down is when this process saw the node become not Ready, if it still is; zero if it has not been
	// Ready since the process began to watch.
	Down Moment
	// ReadyChanged is when Ready last changed between true and not true, as recorded in the Node; zero if not
	// known.
	ReadyChanged time.Time
	// NeverReady means that the node has never been Ready.
	NeverReady bool
	// Leaving means that the node is being drained, shut down or maintained, according to the Node object:
	// what happens there says nothing about a revision.
	Leaving bool
	// Changed is when the node was last seen to change its labels, its taints or its readiness, to which
	// others may react. By the clock of Now; zero if no change was seen.
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

// Pod is what the algorithm needs to know about a pod. Engines keep very many of them, so the small
// fields are placed together.
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
	// ReadySince is when the pod became ready, by the clock of Input.Now, while it is Ready. For a pod
	// that WasReady and no longer is, it is when the end was seen; zero: it was not seen. For a pod
	// that was changed in place it is never before the start of its new containers.
	ReadySince time.Time
	// Changed is when a Change last brought the pod to its revision, by the clock of whoever made it;
	// zero: it was created with that revision.
	Changed time.Time
	// Settles is how long a pod that is Changing must have been ready to count as having its revision;
	// zero: it does not count, however long that lasts.
	Settles time.Duration
	// Deleted is when deletion was requested; zero if it was not. It is the moment of the request, not
	// the end of the grace period, by the clock of the API server.
	Deleted time.Time
	// SeenDeleted is when this process first saw that deletion was requested, or began to request it,
	// also while the outcome is Uncertain.
	SeenDeleted Moment
	Phase       Phase
	// Bound means that spec.nodeName is set.
	Bound bool
	Ready bool
	// WasReady means that a pod that is not Ready has been Ready before. It changes only the reported reason,
	// never the decision.
	WasReady bool
	// Forced means that deletion without a grace period was requested: no stronger request exists.
	Forced bool
	// Refused means that the kubelet did not admit the pod, for a reason that waiting could have avoided:
	// lack of resources, a port in use, labels.
	Refused bool
	// Stuck means that the pod will never start: its template names something that does not exist or cannot
	// be read.
	Stuck bool
	// Restarts is how often the container with the most restarts has restarted, at most 255.
	Restarts uint8
	// Changing means that a Change was made to the pod, and that its containers may still be those of the
	// previous revision: it is not available, whatever Ready says.
	Changing bool
	// Unchangeable means that the pod cannot be changed in place: it does not match its revision, a write was
	// refused, or its last change has not completed.
	Unchangeable bool
	// Uncertain means that the outcome of our last write to it is not known.
	Uncertain bool
	// Assumed means that it is not even known whether such a pod exists: a create of ours may have made it.
	// It counts for everything except the status.
	Assumed bool
	// Left means that the pod ran on an earlier node of this name, which is gone: no kubelet reports for it.
	Left bool
	// Newer means that the pod was made from a newer template than Set: what is known about the DaemonSet is
	// older than what is known about the pod.
	Newer bool
	// Disruptor is who has announced that the pod will be deleted.
	Disruptor Disruptor
}

// Disruptor is what deletes a pod that it does not own, if the pod's condition DisruptionTarget says so.
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

// String returns a phrase for the disruptor; empty if it is not known.
func (d Disruptor) String() string {
	return [...]string{"", "the taint manager", "the eviction API", "the scheduler", "the pod garbage collector", "the kubelet", "a controller"}[d]
}

// Backoff is how long the next failed pod of a node is left in place. It belongs to the node, not to
// the revision: an edit does not reset it, but replaces a failed pod at once, because that pod is then
// outdated.
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
	// Refused means that the kubelet did not admit this pod: the scheduler then binds the successor.
	Refused bool
	// Waited is the creation time of the newest pod there that was deleted, or could not be created, while it
	// waited for the scheduler to bind it; zero if there is none. The scheduler then also binds the
	// successor. Heard is when the last of these pods was removed. The knowledge about the node is kept as
	// long after Heard as after Last.
	Waited, Heard time.Time
	// Hash is the revision of that pod. First is when the first pod of that revision was created whose
	// end this back-off remembers; FirstSeen is when this process saw that, as in Pod.SeenCreated.
	Hash      string
	First     time.Time
	FirstSeen Moment
	// Remakes is the other kind of back-off: for pods that do not last.
	Remakes Remakes
}

// ActKind is the kind of a write.
type ActKind uint8

// The kinds. Claiming adopts a pod, labels it with the current revision, or releases it: that happens
// before a plan, and no plan asks for it.
const (
	Creating ActKind = iota
	Deleting
	Changing
	Claiming
)

// Act identifies a write on a node. Each of them may be refused by itself.
type Act struct {
	Kind ActKind
	// Pod is the UID of the pod that it is about; empty for Creating.
	Pod string
	// Now means that it gives the pod no time to end.
	Now bool
}

// ActOf returns the Act of a delete or a change; of a create if both are nil.
func ActOf(remove *Delete, change *Change) Act {
	switch {
	case remove != nil:
		return remove.Act()
	case change != nil:
		return change.Act()
	}
	return Act{Kind: Creating}
}

// Wait is how long a write is not tried, because it was refused or has failed.
type Wait struct {
	Act Act
	// Until is the end; zero while it is not known. The caller then looks at the node again when the
	// wait is over.
	Until time.Time
	// What was refused, and by whom, as far as known.
	What string
}

// Refusal is a row of such answers, without one in between that the pod was created.
type Refusal struct {
	// For is the time from the first to the last, and Last when that was.
	For  time.Duration
	Last time.Time
}

// over reports whether the wait has ended.
func (w *Wait) over(now time.Time) bool { return !w.Until.IsZero() && !w.Until.After(now) }

// Remakes counts the pods that were created on a node in quick succession, because others deleted each one,
// or took it from the DaemonSet, as soon as it appeared. It belongs to one revision: the caller drops it when
// the template is edited, because the edit may end the trouble.
type Remakes struct {
	// Last is when a pod was last created, and Gone when it was first seen to be gone; zero: it was
	// not.
	Last, Gone time.Time
	// Again is how many pods before it did not last.
	Again uint8
	// By is what deleted the last of them.
	By Disruptor
}
