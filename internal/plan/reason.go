package plan

import "strconv"

// Reason is why a node is in its state, or why a pod is created or deleted. Events, metrics and the command
// line print its text.
type Reason uint8

// The reasons. Each has its name and one sentence in reasonText.
const (
	// NoReason is the zero value; no verdict has it.
	NoReason Reason = iota

	// Nothing to do.
	UpToDate              // the current pod is available
	Starting              // the current pod is not ready yet
	ChangingInPlace       // the pod was changed in place and reports that it is ready; its containers may be older
	MinReadyWait          // the current pod is ready, but not for MinReady yet
	NotReady              // the pod was ready before and is not now
	WaitingForDeletion    // OnDelete: an outdated pod waits to be deleted by hand
	WaitingForTermination // the node's pod is terminating
	BudgetSpent           // an outdated pod waits for the rollout's budget
	AwaitsWave            // a pod of the stable revision waits until the release reaches its node
	BackingOff            // a failed pod is left in place for a while
	PodsDoNotLast         // others delete the pods of the node as soon as they appear
	WaitingForScheduler   // the pod waits for the scheduler to bind it
	Unconfirmed           // the outcome of the last write is not known yet
	NewerTemplate         // the pod has a newer template than the one known
	WriteFailed           // a write was refused or failed, and is tried again later

	// Not eligible.
	NotNamed           // the template names another node
	NotSelected        // the node selector does not match
	AffinityNotMatched // the required node affinity does not match
	TaintNotTolerated  // an untolerated NoSchedule taint: starts nothing
	TaintKeepsPod      // an untolerated NoSchedule taint: keeps what runs
	TaintEvicts        // an untolerated NoExecute taint
	NodeGone           // the node no longer exists
	NodeReplaced       // a pod of an earlier node of this name is left
	HeldByGuard        // its pod would go, but a person is asked first

	// Halted for all nodes.
	SetDeleted  // the DaemonSet is being deleted
	SelectsAll  // the selector is empty
	InvalidSpec // the specification cannot be read

	// Acts.
	Missing         // no pod here: create one
	Surge           // a new pod beside the old one
	Outdated        // the pod is replaced by the current revision
	OutdatedInPlace // the pod is changed in place to the current revision
	Surged          // the old pod is deleted because its successor is available
	Duplicate       // more than one pod here
	PodFailed       // the pod failed
	PodSucceeded    // the pod ended with success
	PodRefused      // the kubelet refused the pod, or the scheduler never bound it
)

// reasonText has the name and the sentence of each reason. A sentence mentions only "node" and "pod";
// Verdict.Detail names the rest.
var reasonText = [...]struct{ name, sentence string }{
	NoReason: {"NoReason", "No reason was given."},

	UpToDate:              {"UpToDate", "The pod is of the current revision and available."},
	Starting:              {"Starting", "The pod is of the current revision and not ready yet."},
	ChangingInPlace:       {"ChangingInPlace", "The pod was changed in place to the current revision; it reports that it is ready, but its new containers have not been seen to work yet."},
	MinReadyWait:          {"MinReadyWait", "The pod is ready, but not yet for minReadySeconds."},
	NotReady:              {"NotReady", "The pod has been ready before and is not ready now."},
	WaitingForDeletion:    {"WaitingForDeletion", "The pod is outdated, and the OnDelete strategy waits until someone deletes it."},
	WaitingForTermination: {"WaitingForTermination", "The pod is terminating; its successor is created when it is gone."},
	BudgetSpent:           {"BudgetSpent", "The pod is outdated and waits its turn: as many nodes are already down, or surging, as the update allows."},
	AwaitsWave:            {"AwaitsWave", "The pod has the last good revision, and stays until the release reaches its node."},
	BackingOff:            {"BackingOff", "The pod has ended and is left in place for a while before it is replaced."},
	PodsDoNotLast:         {"PodsDoNotLast", "Something else deletes or changes the pods of this node soon after they are created; the next one waits a while."},
	WaitingForScheduler:   {"WaitingForScheduler", "The pod waits for the scheduler to bind it to this node."},
	Unconfirmed:           {"Unconfirmed", "The outcome of the last write to this pod is not known yet; nothing is done on this node until it is."},
	NewerTemplate:         {"NewerTemplate", "The pod has a newer template than the one that is known; nothing is done on this node until that template is known."},
	WriteFailed:           {"WriteFailed", "A write for this node was refused or failed and is tried again after a pause; meanwhile it takes no turn from other nodes."},

	NotNamed:           {"NotNamed", "The pod template names another node."},
	NotSelected:        {"NotSelected", "The node's labels do not match the node selector."},
	AffinityNotMatched: {"AffinityNotMatched", "The node does not match the required node affinity."},
	TaintNotTolerated:  {"TaintNotTolerated", "The node has a NoSchedule taint that the pod does not tolerate, so no pod is started."},
	TaintKeepsPod:      {"TaintKeepsPod", "The node has a NoSchedule taint that the pod does not tolerate; the pod that already runs there may stay."},
	TaintEvicts:        {"TaintEvicts", "The node has a NoExecute taint that the pod does not tolerate."},
	NodeGone:           {"NodeGone", "The node does not exist."},
	NodeReplaced:       {"NodeReplaced", "The pod was left by an earlier node of this name; the node gets its own pod when that one is gone."},
	HeldByGuard:        {"HeldByGuard", "Labels or the placement no longer admit the pod; it stays until the edit is reverted or a person lets it go."},

	SetDeleted:  {"SetDeleted", "The DaemonSet is being deleted."},
	SelectsAll:  {"SelectsAll", "The DaemonSet selects all pods; it needs a selector that is not empty."},
	InvalidSpec: {"InvalidSpec", "The DaemonSet's specification cannot be read."},

	Missing:         {"Missing", "The node has no pod, so one is created."},
	Surge:           {"Surge", "A pod of the current revision is created beside the old one."},
	Outdated:        {"Outdated", "The pod is outdated and is replaced by the current revision."},
	OutdatedInPlace: {"OutdatedInPlace", "The pod is outdated and is changed in place to the current revision."},
	Surged:          {"Surged", "The old pod is deleted, because its successor is available."},
	Duplicate:       {"Duplicate", "The node has more than one pod, so one is kept and the others are deleted."},
	PodFailed:       {"PodFailed", "The pod has failed and is replaced."},
	PodSucceeded:    {"PodSucceeded", "The pod has ended, although it should run forever, and is replaced."},
	PodRefused:      {"PodRefused", "The node refused the last pod; the scheduler places the next one when it can."},
}

// Reasons returns all reasons that a verdict may have.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasonText)-1)
	for r := NoReason + 1; int(r) < len(reasonText); r++ {
		all = append(all, r)
	}
	return all
}

// String returns the reason's name, as in events and metrics.
func (r Reason) String() string {
	if int(r) >= len(reasonText) {
		return "Reason(" + strconv.Itoa(int(r)) + ")"
	}
	return reasonText[r].name
}

// Sentence returns the meaning of the reason in one English sentence.
func (r Reason) Sentence() string {
	if int(r) >= len(reasonText) {
		return "Unknown reason " + strconv.Itoa(int(r)) + "."
	}
	return reasonText[r].sentence
}
