package view

// What happens to a pod after it was changed in place. Until its new containers run and are ready it is not available, whatever
// its conditions say. For a while a kubelet reports Ready, and that it has observed the change, while the old containers still
// run, or end, or a new image is being pulled. And a new container with a startup probe is Ready at first, because the old one
// was, or by its readiness probe before its startup probe has begun (kubernetes#91667, kubernetes#141155).
//
// A container that differs from the old one is the new one only if no third one can come. A kubelet that has begun to start
// containers of one revision finishes that, and reports them under the next one; and it does not touch a container that already
// has the image that is asked for. So a pod is changed only when its last change is complete: its kubelet has observed that
// change, and has reported a new container for each that was changed. Then all its containers are of the revision in its label.

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
)

// ChangedAnnotation, on a pod, records what it was before its last change in place. With it anybody can tell from the pod alone
// whether the change is complete, even if the engine has stopped or another has taken over.
const ChangedAnnotation = "everynode.io/changed-in-place"

// change is the value of ChangedAnnotation.
type change struct {
	// Revision is the revision that the pod was changed to.
	Revision string    `json:"revision"`
	At       time.Time `json:"at"`
	// Generation is the pod's generation after the change; 0: the API server does not count generations of pods.
	Generation int64 `json:"generation,omitempty"`
	// Ready is since when the pod had been ready before the change.
	Ready      time.Time          `json:"ready,omitzero"`
	Containers []containerChanged `json:"containers"`
	// Restarts is how often each of the other containers had restarted by then; those without restarts are left out.
	Restarts map[string]int32 `json:"restarts,omitempty"`
}

// containerChanged is the former state of a container that got another image.
type containerChanged struct {
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	ImageID  string `json:"imageID,omitempty"`
	Restarts int32  `json:"restarts,omitempty"`
	// Stuck means that it waited for something that its template or image lacks. Its status may still say so for a while.
	Stuck bool `json:"stuck,omitempty"`
	// Ends is a number of seconds. A container with another ID but the same ImageID that has run for longer than that is
	// certainly not the previous one, which may have restarted just before the change.
	Ends int64 `json:"ends"`
	// Probed is how many seconds after its start a container has certainly been probed, and would no longer be ready if that had
	// failed; 0: it has no probes that matter for this.
	Probed int64 `json:"probed,omitempty"`
	// Starts is how many seconds after a container's start its startup probe has certainly begun; 0: it has none. Until then the
	// container counts as started, as the old one did, and its readiness probe may make it ready. Once the startup probe begins,
	// it is not ready until that probe has passed.
	Starts int64 `json:"starts,omitempty"`
}

// Slack, in seconds, is added to the times that a kubelet should need.
const (
	endSlack   = 10
	probeSlack = 5
)

func recordOf(pod *corev1.Pod, changed map[string]string, hash string, now time.Time) change {
	c := change{Revision: hash, At: now.UTC().Truncate(time.Second), Restarts: map[string]int32{}}
	if pod.Generation > 0 {
		c.Generation = pod.Generation + 1
	}
	if ready := readyCondition(&pod.Status); ready != nil && ready.Status == corev1.ConditionTrue {
		c.Ready = ready.LastTransitionTime.UTC()
	}
	ends := endsAfter(&pod.Spec, len(changed))
	for _, one := range lasting(&pod.Spec) {
		if _, changes := changed[one.Name]; !changes {
			continue
		}
		was := containerChanged{Name: one.Name, Ends: ends, Probed: probedAfter(one), Starts: startsAfter(one)}
		if s := containerStatus(&pod.Status, one.Name); s != nil {
			was.ID, was.ImageID, was.Restarts = s.ContainerID, s.ImageID, s.RestartCount
			was.Stuck = s.State.Waiting != nil && stuck(s.State.Waiting.Reason)
		}
		c.Containers = append(c.Containers, was)
	}
	for _, all := range [...][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range all {
			if _, changes := changed[all[i].Name]; !changes && all[i].RestartCount > 0 {
				c.Restarts[all[i].Name] = all[i].RestartCount
			}
		}
	}
	return c
}

// endsAfter returns containerChanged.Ends when a number of containers is changed: a kubelet ends them one by one, each within the
// grace period.
func endsAfter(spec *corev1.PodSpec, changed int) (seconds int64) {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if spec.TerminationGracePeriodSeconds != nil {
		grace = *spec.TerminationGracePeriodSeconds
	}
	return grace*int64(changed) + endSlack
}

// probedAfter returns containerChanged.Probed for a container.
func probedAfter(c *corev1.Container) (seconds int64) {
	for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe} {
		if p != nil {
			seconds = max(seconds, int64(p.InitialDelaySeconds)+int64(max(p.PeriodSeconds, 1))+int64(p.TimeoutSeconds)+probeSlack)
		}
	}
	return seconds
}

// startsAfter returns containerChanged.Starts for a container. Its start is reported in whole seconds.
func startsAfter(c *corev1.Container) (seconds int64) {
	if p := c.StartupProbe; p != nil {
		seconds = int64(p.InitialDelaySeconds) + int64(max(p.PeriodSeconds, 1)) + 1
	}
	return seconds
}

func readyCondition(s *corev1.PodStatus) *corev1.PodCondition {
	if i := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady }); i >= 0 {
		return &s.Conditions[i]
	}
	return nil
}

func containerStatus(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, all := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range all {
			if all[i].Name == name {
				return &all[i]
			}
		}
	}
	return nil
}

// changedInPlace reads how far the pod's change has got. If the record cannot be parsed, or is about another revision than the
// pod's label, somebody else has changed the pod.
func changedInPlace(p *corev1.Pod, out *plan.Pod) {
	text, is := p.Annotations[ChangedAnnotation]
	if !is {
		return
	}
	var c change
	if json.Unmarshal([]byte(text), &c) != nil || c.Revision == "" {
		out.Unchangeable = true
		return
	}
	out.Changed = c.At
	if seen := p.Status.ObservedGeneration; c.Generation > 0 && seen != 0 && seen < c.Generation {
		// Whatever the status says is about the containers before the change.
		out.Changing, out.Restarts, out.Stuck, out.WasReady, out.Unchangeable = true, 0, false, false, true
		return
	}
	through := c.follow(p, out)
	out.Unchangeable = !through || c.Revision != p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
}

// follow finds out from the containers' statuses whether the new containers run, and since when. It also returns whether the
// change is complete, which it may be although no new container runs.
func (c *change) follow(p *corev1.Pod, out *plan.Pod) (through bool) {
	ready := readyCondition(&p.Status)
	all := progress{through: true, running: true}
	for i := range c.Containers {
		was := &c.Containers[i]
		all.add(was, containerStatus(&p.Status, was.Name), func(began time.Time) bool {
			return ready != nil && !ready.LastTransitionTime.Time.Before(began) && !ready.LastTransitionTime.Time.Equal(c.Ready)
		})
	}
	doubt := max(all.lookalike, all.unprobed)
	out.Restarts, out.Stuck = c.trouble(&p.Status)
	switch {
	case !all.running:
		out.Changing, out.WasReady = true, false
	case out.Ready:
		out.Changing, out.Settles = doubt > 0, doubt
		if out.ReadySince.Before(all.started) {
			out.ReadySince = all.started
		}
	default:
		out.WasReady = ready != nil && ready.LastTransitionTime.Sub(all.started) > startupSlack+all.starts
	}
	return all.through && (all.lookalike == 0 || out.Ready)
}

// trouble returns how often containers have restarted since the change, for the one that did so most often, and whether one of
// them cannot start. Containers that were not changed count, too: they may fail because of the new ones.
func (c *change) trouble(s *corev1.PodStatus) (restarts uint8, isStuck bool) {
	for _, all := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range all {
			one, before, stale := &all[i], c.Restarts[all[i].Name], false
			if i := slices.IndexFunc(c.Containers, func(was containerChanged) bool { return was.Name == one.Name }); i >= 0 {
				before, stale = c.Containers[i].Restarts+1, c.Containers[i].Stuck
			}
			restarts = max(restarts, uint8(min(max(one.RestartCount-before, 0), math.MaxUint8)))
			isStuck = isStuck || !stale && one.State.Waiting != nil && stuck(one.State.Waiting.Reason)
		}
	}
	return restarts, isStuck
}

// progress is how far the containers of a change have come.
type progress struct {
	through bool      // for each, a container was reported that is not the old one
	running bool      // and is running
	started time.Time // when the last of them started
	// How long a pod must be ready until it is certain that containers that look like the old ones are not, and that all were
	// probed.
	lookalike, unprobed time.Duration
	starts              time.Duration // how long after the start a startup probe may begin
}

// add adds the status of one container; nil: it has none. turned returns whether the pod has become ready since a time.
func (all *progress) add(was *containerChanged, s *corev1.ContainerStatus, turned func(since time.Time) bool) {
	if s == nil || s.ContainerID == "" || s.ContainerID == was.ID {
		all.through, all.running = false, false
		return
	}
	if s.ImageID == was.ImageID {
		all.lookalike = max(all.lookalike, time.Duration(was.Ends)*time.Second)
	}
	if s.State.Running == nil {
		all.running = false
		return
	}
	began := s.State.Running.StartedAt.Time
	if began.After(all.started) {
		all.started = began
	}
	starts := time.Duration(was.Starts) * time.Second
	all.starts = max(all.starts, starts)
	if was.Probed > 0 && !turned(began.Add(starts)) {
		all.unprobed = max(all.unprobed, time.Duration(was.Probed)*time.Second)
	}
}

// unsettled returns why it is not certain that the pod's containers, and those that its kubelet may be about to start, are of its
// revision; nil if it is certain. changed are the containers that are to be changed next.
func unsettled(pod *corev1.Pod, changed map[string]string) error {
	if Pod(pod).Unchangeable {
		return fmt.Errorf("its last change has not completed, or somebody has relabelled it since")
	}
	if seen := pod.Status.ObservedGeneration; seen != 0 && seen < pod.Generation {
		return fmt.Errorf("its kubelet has not seen the last change of it")
	}
	for name := range changed {
		if s := containerStatus(&pod.Status, name); s == nil || s.ContainerID == "" {
			return fmt.Errorf("container %s has not started yet", name)
		}
	}
	return nil
}
