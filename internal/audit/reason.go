package audit

import "strconv"

// Reason is what is wrong. Its text is what the command line prints.
type Reason uint8

// The reasons. Each has its name, a sentence and a remedy in reasonText.
const (
	// NoReason is the zero value; no finding has it.
	NoReason Reason = iota

	InvalidSpec // controllers leave the DaemonSet alone

	// How an update goes.
	UpdateAllAtOnce    // every pod at once
	UpdateManyAtOnce   // at least half of the pods at once
	UpdateTakesHours   // so few pods at once that it takes hours
	NoReadinessProbe   // a pod that runs counts as working
	NoMinReadySeconds  // a pod counts as good the moment it is ready
	SurgeWithHostPorts // the new pod waits for the old one's port
	NoHistory          // no revision is kept to return to

	// How the last update went.
	UpdateStuck         // it is half done, and nothing happens any longer
	HalfRolled          // OnDelete: pods of an older revision are left
	MixedRevisions      // pods of three revisions or more
	NodesDownHoldUpdate // nodes that are down have spent the budget

	// Where pods may run.
	HangsOnLabel  // without one label no node matches
	Unguarded     // one edit of labels or of the placement removes all pods
	MatchesNoNode // it runs nowhere
	TaintsKeepOff // nodes with taints that it does not tolerate
	Misscheduled  // pods where none should be

	// What changes pods without an update.
	MutableConfig // a ConfigMap that can be edited
	MutableSecret // a Secret that can be edited
	MutableImage  // a tag that can be moved

	// What pods may do to their nodes.
	HostPathWritable // a path of the node can be written to
	HostPathWhole    // the node's whole file system is visible
	RuntimeSocket    // a container runtime's socket
	Privileged       // a privileged container

	// How well a pod keeps its place.
	NoMemoryRequest // it is evicted first
	NoPriority      // any pod with a priority can preempt it
)

// reasonText is, for each reason, its name, what can happen because of it, and
// what would end it.
var reasonText = [...]struct{ name, sentence, remedy string }{
	NoReason: {"NoReason", "No reason was given.", ""},

	InvalidSpec: {"InvalidSpec", "No controller can act on the DaemonSet's specification: no pod is created, replaced or deleted.", "Correct the specification."},

	UpdateAllAtOnce:    {"UpdateAllAtOnce", "A release reaches every node within seconds: a bad one is everywhere before anybody notices.", "Set spec.updateStrategy.rollingUpdate.maxUnavailable to a small share, such as 10%, or 1."},
	UpdateManyAtOnce:   {"UpdateManyAtOnce", "A bad release takes away at least half of the pods in one step.", "Set spec.updateStrategy.rollingUpdate.maxUnavailable to a small share, such as 10%, or 1."},
	UpdateTakesHours:   {"UpdateTakesHours", "For hours nodes run two releases, and a fix, or the way back, takes as long again.", "Set maxUnavailable or maxSurge to a small share of the nodes, such as 5%. everynode plan says how long an update takes by what these pods took so far."},
	NoReadinessProbe:   {"NoReadinessProbe", "A pod whose containers run counts as available, so an update goes from node to node even if the release does not work.", "Give a container a readinessProbe that fails while the agent does not do its work, and set minReadySeconds."},
	NoMinReadySeconds:  {"NoMinReadySeconds", "A pod counts as available the moment it is ready, so an update goes on before a crash in the first minute shows.", "Set spec.minReadySeconds to the time that a bad release takes to show, such as 30 to 60."},
	SurgeWithHostPorts: {"SurgeWithHostPorts", "The new pod of a node waits for the port that the old one has, and the old one stays until the new one is available: no update makes progress.", "Use maxUnavailable in place of maxSurge, or do without the host port."},
	NoHistory:          {"NoHistory", "Once an update is complete, no earlier revision is kept: kubectl rollout undo has nothing to go back to.", "Leave spec.revisionHistoryLimit out (10), or set it to 2 or more."},

	UpdateStuck:         {"UpdateStuck", "Nodes run different revisions as long as this lasts, and a fix waits behind what holds up this update.", "Find out what holds it up; finish it, or go back."},
	HalfRolled:          {"HalfRolled", "With OnDelete a node gets the current template when its pod ends for any reason: a reboot or an eviction releases it there, at a time that nobody chose.", "Delete the outdated pods, a few at a time, or restore the older template."},
	MixedRevisions:      {"MixedRevisions", "An update began before the previous one was complete: nodes run releases that nobody has tested side by side.", "Finish one update before the next."},
	NodesDownHoldUpdate: {"NodesDownHoldUpdate", "Kubernetes' own DaemonSet controller counts nodes that are down against maxUnavailable: while they are down, it replaces no working pod, so no release gets out. (everynode's engine does not count them.)", "Bring the nodes back or delete their Node objects, or raise maxUnavailable."},

	HangsOnLabel:  {"HangsOnLabel", "DaemonSets follow labels at once: where the label is removed the pod is deleted, without regard to maxUnavailable or a PodDisruptionBudget.", "Let few people and programs write labels of nodes, and set the label when nodes are created. A ValidatingAdmissionPolicy can refuse its removal."},
	Unguarded:     {"Unguarded", "Pods go at once where labels or the placement stop matching, without regard to maxUnavailable: a typo in one line empties every node. A RolloutPolicy's guard would keep all of them until a person allows it.", "Let it follow a RolloutPolicy (annotation everynode.io/rollout-policy) with a small guard.removals (default: 10%)."},
	MatchesNoNode: {"MatchesNoNode", "It has no pod anywhere. A missing or misspelt label looks the same as one that is meant for future nodes.", "Label the nodes, tolerate their taints, or correct nodeSelector and affinity; nothing, if it is meant for future nodes."},
	TaintsKeepOff: {"TaintsKeepOff", "These nodes match its labels but have none of its pods. An agent that should be on every node is missing there.", "Tolerate the taint in the template, if the agent should run on these nodes too."},
	Misscheduled:  {"Misscheduled", "These pods run where the template lets no pod start. Once a pod there ends or is updated, it does not come back.", "Tolerate the nodes' taints in the template, or let the pods go."},

	MutableConfig: {"MutableConfig", "An edit of it reaches pods without an update: maxUnavailable does not hold it back, no revision records it, and rollout undo does not revert it.", "Give each version its own name (Kustomize's configMapGenerator, a hash in Helm), set immutable: true, and name the new one in the template: then a change of it is an update."},
	MutableSecret: {"MutableSecret", "An edit of it reaches pods without an update: maxUnavailable does not hold it back, no revision records it, and rollout undo does not revert it.", "As for ConfigMaps, unless a program renews its content."},
	MutableImage:  {"MutableImage", "What the tag names can change: a node gets another program whenever it pulls, past any update, and rollout undo goes back to the same tag.", "Use a version tag that is never moved, or a digest (image@sha256:...)."},

	HostPathWritable: {"HostPathWritable", "Anyone who changes the image or the template can change files of every node, and what is written stays when the DaemonSet is gone.", "Mount with readOnly: true what is only read, and use the narrowest path."},
	HostPathWhole:    {"HostPathWhole", "Anyone who changes the image or the template can read, and may write, everything on every node, including the kubelet's keys.", "Name only the folders that are needed."},
	RuntimeSocket:    {"RuntimeSocket", "Anyone who talks to a container runtime is root on the node. Read-only does not help: a socket works anyway.", "Name a folder without the socket; the kubelet's and CRI's metrics have most of what agents look for."},
	Privileged:       {"Privileged", "Anyone who changes the image or the template is root on every node where it runs.", "Name the capabilities that are needed instead of privileged: true."},

	NoMemoryRequest: {"NoMemoryRequest", "On a node that runs out of memory, pods that use more than they request are evicted first, and a pod that requests nothing always does.", "Set resources.requests.memory in each container to what it needs."},
	NoPriority:      {"NoPriority", "On a full node its pod waits, or is preempted by any pod with a higher priority; and other pods of the node need it to run at all.", "Set priorityClassName: system-node-critical, or your own class above that of applications."},
}

// Reasons are all reasons that a finding may have.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasonText)-1)
	for r := NoReason + 1; int(r) < len(reasonText); r++ {
		all = append(all, r)
	}
	return all
}

// String is the reason's name.
func (r Reason) String() string {
	if int(r) >= len(reasonText) {
		return "Reason(" + strconv.Itoa(int(r)) + ")"
	}
	return reasonText[r].name
}

// MarshalText returns String, for JSON and YAML.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Sentence says what can happen because of it.
func (r Reason) Sentence() string {
	if int(r) >= len(reasonText) {
		return "Unknown reason " + strconv.Itoa(int(r)) + "."
	}
	return reasonText[r].sentence
}

// Remedy says what would end it.
func (r Reason) Remedy() string {
	if int(r) >= len(reasonText) {
		return ""
	}
	return reasonText[r].remedy
}
