package view

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// FromEvents adds to the cause what the newest warning about the pod says, if it is
// about the same thing: mounts and the network while the containers are created, probes
// while they run, or after they were killed. Events of other pods are ignored.
func (c *Cause) FromEvents(p *corev1.Pod, events []corev1.Event) {
	var newest *corev1.Event
	for i := range events {
		e := &events[i]
		if e.InvolvedObject.UID != p.UID || e.Type != corev1.EventTypeWarning || !c.fits(e) {
			continue
		}
		if newest == nil || eventTime(e).After(eventTime(newest)) {
			newest = e
		}
	}
	switch {
	case newest == nil:
	case c.killed() && !vague(c.Reason):
		c.Message = newest.Message // the reason stays: the container crashes in a loop, for example
	default:
		c.Reason, c.Message = newest.Reason, newest.Message
	}
}

// fits reports whether an event can explain the cause that the status has.
func (c *Cause) fits(e *corev1.Event) bool {
	if name := fieldContainer(e); name != "" && c.Container != "" && name != c.Container {
		return false
	}
	switch c.Reason {
	case NotReady:
		return e.Reason == "Unhealthy" && !strings.HasPrefix(e.Message, "Startup")
	case NotStarted:
		return e.Reason == "Unhealthy" && !strings.HasPrefix(e.Message, "Readiness") || e.Reason == "FailedPostStartHook"
	case "", "ContainerCreating", "PodInitializing":
		return e.Reason != "FailedScheduling" && (strings.HasPrefix(e.Reason, "Failed") || e.Reason == "NetworkNotReady")
	default:
		return c.killed() && e.Reason == "Unhealthy" && !strings.HasPrefix(e.Message, "Readiness")
	}
}

// fieldContainer returns the container that an event is about. The event's path is
// spec.containers{NAME}, or that of an init container.
func fieldContainer(e *corev1.Event) string {
	_, name, _ := strings.Cut(e.InvolvedObject.FieldPath, "{")
	return strings.TrimSuffix(name, "}")
}

// eventTime returns when the event happened last, whichever way it is counted.
func eventTime(e *corev1.Event) time.Time {
	if e.Series != nil && !e.Series.LastObservedTime.IsZero() {
		return e.Series.LastObservedTime.Time
	}
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}
