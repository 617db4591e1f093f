package view

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Cause is why a pod is not available, according to its status or to an event about it.
type Cause struct {
	// Container is the container that holds the pod up; empty if none does.
	Container string `json:"container,omitempty"`
	// Init means that it is an init container.
	Init bool `json:"init,omitempty"`
	// Reason is Kubernetes' own word: ErrImagePull, CrashLoopBackOff, Unhealthy,
	// FailedMount, Evicted.
	Reason string `json:"reason"`
	// Image is the image that is missing, if that is the reason.
	Image string `json:"image,omitempty"`
	// Message is the message of the kubelet or of the program.
	Message string `json:"message,omitempty"`
	// LastEnd is how the container ended the last time; nil if it has not ended yet.
	LastEnd *End `json:"lastEnd,omitempty"`
	// Restarts is how often the container has restarted.
	Restarts int32 `json:"restarts,omitempty"`
	// Running means that the container runs.
	Running bool `json:"running,omitempty"`
}

// EndedBefore reports whether the log of the run that ended last is what a kubelet calls the previous one. While the
// container does not run, that log is the current one. The previous one is then from a run before it, and gone: a
// kubelet keeps the log of only one run that has ended.
func (c *Cause) EndedBefore() bool { return c.Running && c.Restarts > 0 }

// End is how a container ended.
type End struct {
	Reason   string    `json:"reason"` // Error, OOMKilled, Completed, ContainerCannotRun
	ExitCode int32     `json:"exitCode"`
	Signal   int32     `json:"signal,omitempty"`
	At       time.Time `json:"at"`
}

// Reasons of our own, because the kubelet gives none while a container runs.
const (
	NotStarted = "NotStarted" // the startup probe has not succeeded
	NotReady   = "NotReady"   // it runs, and is not ready
	Restarted  = "Restarted"  // it runs again after it ended: see Trouble
)

// CauseOf returns why a pod is not available, according to its status. hints is true if events about the pod may say
// more: see FromEvents. A cause without a reason means that the reason is not known.
func CauseOf(p *corev1.Pod) (c Cause, hints bool) {
	if p.Status.Phase == corev1.PodFailed && p.Status.Reason != "" {
		return Cause{Reason: p.Status.Reason, Message: p.Status.Message}, false
	}
	inits := containerCauses(p.Status.InitContainerStatuses, p.Spec.InitContainers, true)
	mains := containerCauses(p.Status.ContainerStatuses, p.Spec.Containers, false)
	for _, c := range append(inits, mains...) {
		if !vague(c.Reason) {
			return c, c.killed()
		}
	}
	for _, c := range append(inits, mains...) {
		return c, true
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady && c.Reason == "ReadinessGatesNotReady" {
			return Cause{Reason: c.Reason, Message: c.Message}, false
		}
	}
	return Cause{}, len(p.Status.ContainerStatuses) == 0 && p.Spec.NodeName != ""
}

// vague reports whether a reason names a state that every container passes through.
func vague(reason string) bool {
	switch reason {
	case "ContainerCreating", "PodInitializing", NotStarted, NotReady:
		return true
	}
	return false
}

// Passing reports whether the cause is a state that every container passes through, and nothing more is known about
// this container.
func (c *Cause) Passing() bool { return vague(c.Reason) }

// killed reports whether something other than the program and its memory limit may have ended it: the kubelet, after
// a failed probe.
func (c *Cause) killed() bool {
	const sigkill, sigterm = 128 + 9, 128 + 15
	return c.LastEnd != nil && c.LastEnd.Reason != oomKilled && (c.LastEnd.ExitCode == sigkill || c.LastEnd.ExitCode == sigterm)
}

const oomKilled = "OOMKilled"

// containerCauses returns the causes of the containers that hold their pod up, in order.
func containerCauses(statuses []corev1.ContainerStatus, specs []corev1.Container, init bool) (causes []Cause) {
	for i := range statuses {
		s := &statuses[i]
		c := Cause{Container: s.Name, Init: init, Restarts: s.RestartCount, LastEnd: lastEnd(s), Running: s.State.Running != nil}
		switch state := &s.State; {
		case state.Waiting != nil:
			c.Reason, c.Message = state.Waiting.Reason, state.Waiting.Message
			if t := s.LastTerminationState.Terminated; c.Reason == "CrashLoopBackOff" {
				c.Message = "" // it says no more than the reason does
				if t != nil {
					c.Message = t.Message
				}
			}
			if missesImage(c.Reason) {
				c.Image = imageOf(specs, s.Name)
			}
		case state.Terminated != nil && (!init || state.Terminated.ExitCode != 0):
			c.Reason, c.Message = state.Terminated.Reason, state.Terminated.Message
		case state.Running != nil && s.Started != nil && !*s.Started:
			c.Reason = NotStarted
		case state.Running != nil && !s.Ready:
			c.Reason = NotReady
		}
		if c.Reason != "" {
			causes = append(causes, c)
		}
	}
	return causes
}

func lastEnd(s *corev1.ContainerStatus) *End {
	t := s.State.Terminated
	if t == nil {
		t = s.LastTerminationState.Terminated
	}
	if t == nil {
		return nil
	}
	return &End{Reason: t.Reason, ExitCode: t.ExitCode, Signal: t.Signal, At: t.FinishedAt.Time}
}

func missesImage(reason string) bool {
	return strings.Contains(reason, "Image") || reason == "RegistryUnavailable"
}

// imageOf returns the image as the template names it; the status has the name that the runtime uses.
func imageOf(specs []corev1.Container, name string) string {
	for i := range specs {
		if specs[i].Name == name {
			return specs[i].Image
		}
	}
	return ""
}

// MissesImage reports whether the container's image cannot be pulled.
func (c *Cause) MissesImage() bool { return missesImage(c.Reason) }

// String returns the cause in one line.
func (c *Cause) String() string {
	s, parts := c.Reason, []string{}
	if c.Image != "" {
		s += " " + c.Image
	}
	switch {
	case c.Container != "" && c.Init:
		parts = append(parts, "init container "+c.Container)
	case c.Container != "":
		parts = append(parts, "container "+c.Container)
	}
	if e := c.LastEnd; e != nil {
		if e.Reason != "Error" && e.Reason != c.Reason && e.Reason != "" {
			parts = append(parts, e.Reason)
		}
		parts = append(parts, fmt.Sprintf("exit code %d", e.ExitCode))
	}
	if c.Restarts == 1 {
		parts = append(parts, "1 restart")
	} else if c.Restarts > 1 {
		parts = append(parts, fmt.Sprintf("%d restarts", c.Restarts))
	}
	if len(parts) > 0 {
		s += " (" + strings.Join(parts, ", ") + ")"
	}
	if m := oneLine(c.Message); m != "" {
		s += ": " + m
	}
	return s
}

// Trouble returns why a pod is not ready, according to its status, in a few words that stay the same while nothing
// changes: without the message and the number of restarts. It is empty if the status gives no reason, or the pod is
// being deleted.
func Trouble(p *corev1.Pod) string {
	if ready := readyCondition(&p.Status); p.DeletionTimestamp != nil || ready != nil && ready.Status == corev1.ConditionTrue {
		return ""
	}
	c, _ := CauseOf(p)
	if c.Reason == "" || c.Passing() || c.Reason == "Completed" {
		c = restarted(&p.Status)
	}
	c.Image, c.Message, c.Restarts = "", "", 0
	return c.String()
}

// restarted returns the cause of a container that has ended before, and has not become ready since.
func restarted(s *corev1.PodStatus) Cause {
	for n, all := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range all {
			if end := lastEnd(&all[i]); end != nil && all[i].RestartCount > 0 && !all[i].Ready {
				return Cause{Container: all[i].Name, Init: n == 0, Reason: Restarted, LastEnd: end}
			}
		}
	}
	return Cause{}
}

// oneLine joins a text of several lines into one. A probe that prints nothing leaves a colon at the end.
func oneLine(s string) string { return strings.TrimSuffix(strings.Join(strings.Fields(s), " "), ":") }
