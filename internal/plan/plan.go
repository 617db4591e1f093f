package plan

import "time"

// Plan is what to do now. The engine carries it out in this order: first deletes, changes and creates,
// in any order among nodes (a node never has creates together with deletes or changes, except when a
// surge ends), then the status.
type Plan struct {
	// Creates are the pods to create, by node name.
	Creates []Create
	// Deletes are the pods to delete, by node name; within a node, the pod most worth keeping comes
	// last.
	Deletes []Delete
	// Changes are the pods to change in place to another revision, by node name.
	Changes []Change
	// Verdicts has one entry for each node of the input and for each other
	// node that a pod names, sorted by node name.
	Verdicts []Verdict
	Status   Status
	// Guarded is how many nodes would lose their pods without the guard.
	Guarded int
	// Exposure is all zero without a release.
	Exposure Exposure
	// WakeAt is when time alone changes the plan; zero if it never does.
	WakeAt time.Time

	// Memory that the next Make reuses.
	nodes      []*Node
	pods       []*Pod
	candidates []*Verdict
}

// Create is a pod to create.
type Create struct {
	Node string
	// NodeUID is the UID of that node.
	NodeUID string
	// Predecessor is the UID of the newest pod that has ended, or is ending: one of the current revision that
	// the input still has on this node, or Backoff.Pod; empty if neither is known. The name of the pod is
	// made from it, so that the successor of a failed pod gets another name.
	Predecessor string
	// ByScheduler means that the scheduler must bind the pod.
	ByScheduler bool
	// Stable means that the pod is made from Release.Stable and not from Set.
	Stable bool
	Reason Reason
}

// Delete is a pod to delete.
type Delete struct {
	Node, Pod, UID string
	// Now means that no grace period is needed: the node is gone.
	Now bool
	// Waited means that the scheduler has not bound the pod: Backoff.Waits remembers it for the successor.
	Waited bool
	Reason Reason
	// Hash is the revision that the pod counts as, and Created and SeenCreated are when it was created.
	// Backoff.After keeps them.
	Hash        string
	Created     time.Time
	SeenCreated Moment
	// Reaches means that this delete gives the node the target of the release: see Input.Reached.
	Reaches bool
}

// Change is a pod to change in place to another revision. Its containers restart as far as the two
// revisions differ; the pod stays.
type Change struct {
	Node, Pod, UID string
	// From is the revision that it was made from.
	From string
	// Stable means that it gets the revision of Release.Stable and not of Set.
	Stable bool
	Reason Reason
	// Reaches means that this change gives the node the target of the release: see Input.Reached.
	Reaches bool
}

// Verdict is the decision for one node, and its reason.
type Verdict struct {
	Node   string
	Reason Reason
	// Detail is the subject of the reason, if it has one: the taint, the selector key, the pod.
	Detail string
	// Pod is the pod that represents this node, from which the status is taken: an available one
	// first, then one of the current revision. A terminating pod represents the node only if there is
	// no other. Empty when the node has none.
	Pod string
	// Until is the earliest instant at which time alone changes this verdict;
	// zero when there is none.
	Until time.Time

	// What the node adds to the status.
	Desired, Current, Ready, Available, Updated, Misscheduled bool

	// What the node means to the rollout.
	counted bool // in B (I4)
	down    bool // in B, without an available pod
	surging bool // holds an old pod beside one that is not available yet
	guarded bool // the guard holds its pods
	spared  bool // it would, without Guard.Allowed
	// What a guarded node would be without the guard: fixed, leave or drop; early: only once its turn in a release has come.
	goes  candidate
	early bool

	// What the node means to the release: see Exposure.
	release standing
	rank    int32 // its position in the order of the release

	// The writes on this node. A candidate's last one waits for Roll: the change or the create, if
	// there is one.
	candidate candidate
	granted   bool
	deletes   []Delete
	creates   []Create
	changes   []Change // one at most
}

// Status is apps/v1 DaemonSetStatus, as far as it depends on pods.
type Status struct {
	Desired, Current, Misscheduled, Ready, Updated, Available, Unavailable int
}
