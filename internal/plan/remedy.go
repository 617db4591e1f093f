package plan

// Remedy returns one line about what would change the state that the reason names: what a person
// can do, or what is being waited for. It is empty if nothing needs to change.
func (r Reason) Remedy() string {
	if int(r) >= len(remedies) {
		return ""
	}
	return remedies[r]
}

// remedies has a text for each reason that a person may want to change.
var remedies = [...]string{
	Starting:              "Waits for the pod to become ready: kubectl describe pod, kubectl logs.",
	ChangingInPlace:       "Waits for the kubelet to start the new containers: kubectl describe pod, kubectl logs.",
	MinReadyWait:          "Waits for minReadySeconds of unbroken readiness.",
	NotReady:              "Find out why the pod lost readiness: kubectl describe pod, kubectl logs.",
	OutdatedInPlace:       "Nothing to do. If admission would refuse or rewrite a new pod, the pod is deleted instead: the event NotInPlace says so.",
	WaitingForDeletion:    "Delete the pod, or set updateStrategy.type to RollingUpdate.",
	WaitingForTermination: "Waits for the kubelet; on a dead node, bring the node back or delete the Node.",
	BudgetSpent:           "Waits for pods elsewhere to become available; or raise maxUnavailable or maxSurge.",
	AwaitsWave:            "Waits for its wave: everynode rollout status says how far the release is, and what it waits for.",
	BackingOff:            "Waits for the back-off to end; find out why the pod ended: kubectl logs.",
	PodsDoNotLast:         "Find out what does it (a taint that is tolerated for a short time, a descheduler, a policy, a webhook). A change of the node's taints or labels, or of the template, is tried at once.",
	WaitingForScheduler:   "kubectl describe pod says what the scheduler waits for: room, a port, a device, another pod.",
	Unconfirmed:           "Waits for the API server's answer.",
	NewerTemplate:         "Waits for the newest version of the DaemonSet.",
	WriteFailed:           "Find out what refuses it (admission policy, webhook, quota): kubectl describe daemonset has the events.",
	NotNamed:              "Change the template's spec.nodeName.",
	NotSelected:           "Label the node, or change the template's nodeSelector.",
	AffinityNotMatched:    "Label the node, or change the template's required node affinity.",
	TaintNotTolerated:     "Remove the taint from the node, or tolerate it in the template.",
	TaintKeepsPod:         "Remove the taint from the node, or tolerate it, so that the pod can be updated; a deleted pod would not come back.",
	TaintEvicts:           "Remove the taint from the node, or tolerate it in the template.",
	NodeGone:              "The pod garbage collector deletes the pod.",
	NodeReplaced:          "Waits for the API server to delete the pod; kubectl describe daemonset says if that is refused.",
	HeldByGuard:           "Revert the label or the placement; or let the pods go: everynode rollout allow.",
	SetDeleted:            "Waits for the garbage collector.",
	SelectsAll:            "Give the DaemonSet a selector.",
	InvalidSpec:           "Correct the DaemonSet's specification.",
	PodFailed:             "Find out why the pod failed: kubectl describe pod.",
	PodSucceeded:          "Give the container a program that does not end.",
	PodRefused:            "kubectl describe pod says what the node lacks: room, a host port, a label, a device.",
}
