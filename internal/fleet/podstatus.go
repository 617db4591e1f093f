package fleet

import (
	"encoding/json"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Reasons for which a container waits, as kubelets give them.
const (
	reasonCrash = "CrashLoopBackOff"
	reasonPull  = "ImagePullBackOff"
)

// podPatch returns a strategic merge patch of a pod's status after a step. It does not touch conditions that
// others write.
func podPatch(pod *corev1.Pod, todo step, now metav1.Time) ([]byte, error) {
	node := address(pod.Spec.NodeName)
	own := address(string(pod.UID))
	if pod.Spec.HostNetwork {
		own = node
	}
	p := patch{}
	p.Metadata.UID = pod.UID
	p.Status.HostIP, p.Status.HostIPs = node, []corev1.HostIP{{IP: node}}
	p.Status.PodIP, p.Status.PodIPs = own, []corev1.PodIP{{IP: own}}
	p.Status.StartTime = pod.Status.StartTime
	if p.Status.StartTime == nil {
		p.Status.StartTime = &now
	}
	p.Status.Phase, p.Status.ObservedGeneration = corev1.PodRunning, pod.Generation
	c := &conditions{pod: pod, now: now}
	c.set(corev1.PodScheduled, true, "")
	c.set(corev1.PodReadyToStartContainers, true, "")
	ran := pod.Status.Phase == corev1.PodRunning
	c.set(corev1.PodInitialized, todo != pull || ran, "ContainersNotInitialized")
	notReady := "ContainersNotReady"
	switch todo {
	case pull:
		if !ran {
			p.Status.Phase = corev1.PodPending
		}
	case finish:
		p.Status.Phase, notReady = corev1.PodSucceeded, "PodCompleted"
	case fail:
		p.Status.Phase, notReady = corev1.PodFailed, "PodFailed"
	}
	c.set(corev1.ContainersReady, todo == ready, notReady)
	c.set(corev1.PodReady, todo == ready, notReady)
	p.Status.Conditions = c.all
	for _, container := range pod.Spec.InitContainers {
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, initStatus(pod, container, todo, now))
	}
	for _, container := range pod.Spec.Containers {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, containerStatus(pod, container, todo, now))
	}
	return json.Marshal(p)
}

type patch struct {
	Metadata struct {
		UID types.UID `json:"uid"`
	} `json:"metadata"`
	Status struct {
		Phase                 corev1.PodPhase          `json:"phase"`
		HostIP                string                   `json:"hostIP"`
		HostIPs               []corev1.HostIP          `json:"hostIPs"`
		PodIP                 string                   `json:"podIP"`
		PodIPs                []corev1.PodIP           `json:"podIPs"`
		StartTime             *metav1.Time             `json:"startTime"`
		ObservedGeneration    int64                    `json:"observedGeneration"`
		Conditions            []condition              `json:"conditions"`
		InitContainerStatuses []corev1.ContainerStatus `json:"initContainerStatuses,omitempty"`
		ContainerStatuses     []corev1.ContainerStatus `json:"containerStatuses"`
	} `json:"status"`
}

// condition is a PodCondition whose reason and message are removed when they are
// nil; corev1's would leave the old ones.
type condition struct {
	Type               corev1.PodConditionType `json:"type"`
	Status             corev1.ConditionStatus  `json:"status"`
	Reason             *string                 `json:"reason"`
	Message            *string                 `json:"message"`
	LastTransitionTime metav1.Time             `json:"lastTransitionTime"`
}

type conditions struct {
	pod *corev1.Pod
	now metav1.Time
	all []condition
}

// set adds a condition. If its status has not changed, it keeps its time. The reason is only set if the
// condition is not true.
func (c *conditions) set(kind corev1.PodConditionType, yes bool, reason string) {
	one := condition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: c.now}
	if !yes {
		one.Status, one.Reason = corev1.ConditionFalse, &reason
	}
	if old := podCondition(c.pod, kind); old != nil && old.Status == one.Status {
		one.LastTransitionTime = old.LastTransitionTime
	}
	c.all = append(c.all, one)
}

// containerStatus returns a container's status after a step.
func containerStatus(pod *corev1.Pod, c corev1.Container, todo step, now metav1.Time) corev1.ContainerStatus {
	s, old := imageStatus(pod, c), statusOf(pod, c.Name)
	if old != nil {
		s.RestartCount = old.RestartCount
		if (todo == again || todo == pull) && old.Image == c.Image && old.State.Waiting == nil {
			return *old // only what has changed is touched
		}
	}
	running := &corev1.ContainerStateRunning{StartedAt: startedAt(pod, now)}
	started := todo == start || todo == ready
	s.Started, s.Ready = &started, todo == ready
	switch todo {
	case start, ready:
		s.State.Running = running
	case again:
		s.RestartCount++
		s.Started, s.State.Running = new(true), &corev1.ContainerStateRunning{StartedAt: now}
	case crash:
		s.RestartCount++
		s.State.Waiting = waiting(reasonCrash, "back-off restarting failed container "+c.Name)
		s.LastTerminationState.Terminated = ended(s, running.StartedAt, now, 1, "Error")
	case pull:
		s = corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: &started, RestartCount: s.RestartCount}
		s.State.Waiting = waiting(reasonPull, "Back-off pulling image \""+c.Image+"\": the simulation says that it cannot be pulled")
	case finish:
		s.State.Terminated = ended(s, running.StartedAt, now, 0, "Completed")
	case fail:
		s.State.Terminated = ended(s, running.StartedAt, now, 1, "Error")
	}
	return s
}

// initStatus returns the same for an init container. A sidecar is treated like the main containers; any other
// init container has completed.
func initStatus(pod *corev1.Pod, c corev1.Container, todo step, now metav1.Time) corev1.ContainerStatus {
	if todo == pull || c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return containerStatus(pod, c, todo, now)
	}
	s := imageStatus(pod, c)
	s.Ready = true
	s.State.Terminated = ended(s, startedAt(pod, now), startedAt(pod, now), 0, "Completed")
	return s
}

// imageStatus returns the status of a container's image: a changed image means a new container.
func imageStatus(pod *corev1.Pod, c corev1.Container) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: "simulated://" + digest("image", c.Image),
		ContainerID: "simulated://" + digest(c.Name, string(pod.UID))}
	switch old := statusOf(pod, c.Name); {
	case old == nil:
	case old.Image == c.Image && old.ContainerID != "":
		s.ContainerID = old.ContainerID
	case pod.Status.Phase == corev1.PodRunning:
		s.ContainerID = "simulated://" + digest(c.Name, string(pod.UID)+" "+strconv.FormatInt(pod.Generation, 10))
	}
	return s
}

// statusOf returns the status of the pod's container of that name; nil: there is none.
func statusOf(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, all := range [...][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range all {
			if all[i].Name == name {
				return &all[i]
			}
		}
	}
	return nil
}

// changed reports whether a container of a running pod was given another image: an update in place.
func changed(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		s := statusOf(pod, c.Name)
		return s != nil && s.Image != c.Image && s.State.Terminated == nil
	})
}

func waiting(reason, message string) *corev1.ContainerStateWaiting {
	return &corev1.ContainerStateWaiting{Reason: reason, Message: message}
}

func ended(s corev1.ContainerStatus, from, to metav1.Time, code int32, reason string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: from, FinishedAt: to, ContainerID: s.ContainerID}
}

// startedAt returns since when the pod's containers run; now if they do not.
func startedAt(pod *corev1.Pod, now metav1.Time) metav1.Time {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil {
			return s.State.Running.StartedAt
		}
	}
	return now
}

// waitingFor returns the reason why a container of the pod waits.
func waitingFor(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Waiting != nil {
			return s.State.Waiting.Reason
		}
	}
	return ""
}

// restarts returns how often the pod's containers have restarted.
func restarts(pod *corev1.Pod) int32 {
	var most int32
	for _, s := range pod.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	return most
}

func isReady(pod *corev1.Pod) bool {
	c := podCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == kind {
			return c
		}
	}
	return nil
}
