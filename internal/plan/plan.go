package plan

import "time"

// Plan is what to do now. The engine carries it out in this order: deletes,
// changes and creates in any order among nodes (a node never has creates and one of the others, but for a surge that
// ends), then status.
type Plan struct {
	// Creates are the pods to make, by node name.
	Creates []Create
	// Deletes are the pods to delete, by node name; on a node, the pod that
	// would rather be kept comes last.
	Deletes []Delete
	// Changes are the pods to make ones of another revision where they run, by node name.
	Changes []Change
	// Verdicts has one entry for each node of the input and for each other
	// node that a pod names, sorted by node name.
	Verdicts []Verdict
	Status   Status
	// Guarded is how many nodes would lose their pods, but for the guard.
	Guarded int
	// Exposure is all zero without a release.
	Exposure Exposure
	// WakeAt is when time alone changes the plan; zero when never.
	WakeAt time.Time

	// Room that the next Make uses again.
	nodes      []*Node
	pods       []*Pod
	candidates []*Verdict
}

// Create is a pod to make.
type Create struct {
	Node string
	// NodeUID is the UID of that node.
	NodeUID string
	// Predecessor is the UID of the newest pod that is no more, or ends: one of
	// the current revision that the input still has on this node, or
	// Backoff.Pod; empty when it knows neither. The name of the pod is made
	// from it, so that the successor of a failed pod does not take over its
	// name.
	Predecessor string
	// ByScheduler says that the scheduler must bind the pod.
	ByScheduler bool
	// Stable says that the pod is to be made from Release.Stable and not from Set.
	Stable bool
	Reason Reason
}

// Delete is a pod to delete.
type Delete struct {
	Node, Pod, UID string
	// Now says that no grace period is due: the node is gone.
	Now bool
	// Waited says that the scheduler has not bound the pod: Backoff.Waits
	// remembers it for the successor.
	Waited bool
	Reason Reason
	// Hash is the revision that the pod counts as, and Created and SeenCreated
	// when it was created. Backoff.After keeps them.
	Hash        string
	Created     time.Time
	SeenCreated Moment
	// Reaches says that the node gets the target of the release by this: see
	// Input.Reached.
	Reaches bool
}

// Change is a pod to make one of another revision where it runs. Its containers start again as far as
// the two differ; the pod stays.
type Change struct {
	Node, Pod, UID string
	// From is the revision that it was made from.
	From string
	// Stable says that it is to become one of Release.Stable and not of Set.
	Stable bool
	Reason Reason
	// Reaches says that the node gets the target of the release by this: see
	// Input.Reached.
	Reaches bool
}

// Verdict is what was decided for one node, and why.
type Verdict struct {
	Node   string
	Reason Reason
	// Detail is the subject of the reason, where it has one: the taint, the
	// selector key, the pod.
	Detail string
	// Pod is the pod that stands for this node and that the status is taken
	// from: an available one before others, then one of the current revision.
	// A terminating pod stands only where there is no other. Empty when the
	// node has none.
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
	spared  bool // it would, but for Guard.Allowed

	// What the node means to the release: see Exposure.
	release standing
	rank    int32 // its place among those that the release reaches

	// The acts here. A candidate's last one waits for Roll: the change or the create, if there is one.
	candidate candidate
	granted   bool
	deletes   []Delete
	creates   []Create
	changes   []Change // one at most
}

// Status is apps/v1 DaemonSetStatus, as far as pods decide it.
type Status struct {
	Desired, Current, Misscheduled, Ready, Updated, Available, Unavailable int
}
