package view

// What becomes of a pod that was changed where it runs. Until its new containers run and are ready it is not
// available, whatever its conditions say: for a while a kubelet says Ready, and that it has observed the
// change, while the containers before it still run, or end, or a new image is being pulled. And a new container with a
// startup probe is Ready at first, by what the one before it was (kubernetes#91667, kubernetes#141155).

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
)

// ChangedAnnotation, on a pod, is what it was before it was last changed in place. With it anybody can tell from the pod
// alone whether the change has come through: the engine may stop, or be another one.
const ChangedAnnotation = "everynode.io/changed-in-place"

// change is the value of ChangedAnnotation.
type change struct {
	// Revision is what the pod was made one of.
	Revision string    `json:"revision"`
	At       time.Time `json:"at"`
	// Generation is the pod's after the change; 0: the API server does not count.
	Generation int64 `json:"generation,omitempty"`
	// Ready is since when the pod was ready.
	Ready      time.Time          `json:"ready,omitzero"`
	Containers []containerChanged `json:"containers"`
}

// containerChanged is a container that got another image, as it was before.
type containerChanged struct {
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	ImageID  string `json:"imageID,omitempty"`
	Restarts int32  `json:"restarts,omitempty"`
	// Stuck says that it waited for what its template or image lacks: its status may say so for a while longer.
	Stuck bool `json:"stuck,omitempty"`
	// Ends is how many seconds after its start a container with another ID but the same ImageID is surely not the one
	// before, which may have started again just before the change.
	Ends int64 `json:"ends"`
	// Probed is how many seconds after its start a container was surely probed, and would have ceased to be
	// ready had that failed; 0: it has no probes that count for that.
	Probed int64 `json:"probed,omitempty"`
}

// Slack is what is added to the times that a kubelet should need, in seconds.
const (
	endSlack   = 10
	probeSlack = 5
)

func recordOf(pod *corev1.Pod, changed map[string]string, hash string, now time.Time) change {
	c := change{Revision: hash, At: now.UTC().Truncate(time.Second)}
	if pod.Generation > 0 {
		c.Generation = pod.Generation + 1
	}
	if ready := readyCondition(&pod.Status); ready != nil && ready.Status == corev1.ConditionTrue {
		c.Ready = ready.LastTransitionTime.UTC()
	}
	ends := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace != nil {
		ends = *grace
	}
	for _, one := range lasting(&pod.Spec) {
		if _, changes := changed[one.Name]; !changes {
			continue
		}
		was := containerChanged{Name: one.Name, Ends: ends + endSlack, Probed: probedAfter(one)}
		if s := containerStatus(&pod.Status, one.Name); s != nil {
			was.ID, was.ImageID, was.Restarts = s.ContainerID, s.ImageID, s.RestartCount
			was.Stuck = s.State.Waiting != nil && stuck(s.State.Waiting.Reason)
		}
		c.Containers = append(c.Containers, was)
	}
	return c
}

// probedAfter is Probed of a container.
func probedAfter(c *corev1.Container) (seconds int64) {
	for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe} {
		if p != nil {
			seconds = max(seconds, int64(p.InitialDelaySeconds)+int64(max(p.PeriodSeconds, 1))+int64(p.TimeoutSeconds)+probeSlack)
		}
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

// changedInPlace reads how far the pod's change has come. A pod whose record is of another
// revision than its label, or cannot be read, was touched by somebody else.
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
	out.Unchangeable = c.Revision != p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	out.Changed = c.At
	if seen := p.Status.ObservedGeneration; c.Generation > 0 && seen != 0 && seen < c.Generation {
		// Whatever the status says, it says of what was before.
		out.Changing, out.Restarts, out.Stuck, out.WasReady = true, 0, false, false
		return
	}
	c.follow(p, out)
}

// follow tells by the containers' statuses whether those of the change run, and since when.
func (c *change) follow(p *corev1.Pod, out *plan.Pod) {
	ready := readyCondition(&p.Status)
	all := progress{running: true}
	for i := range c.Containers {
		was := &c.Containers[i]
		all.add(was, containerStatus(&p.Status, was.Name), func(began time.Time) bool {
			return ready != nil && !ready.LastTransitionTime.Time.Before(began) && !ready.LastTransitionTime.Time.Equal(c.Ready)
		})
	}
	out.Restarts, out.Stuck = all.restarts, all.stuck
	switch {
	case !all.running:
		out.Changing, out.WasReady = true, false
	case out.Ready:
		out.Changing, out.Settles = all.doubt > 0, all.doubt
		if out.ReadySince.Before(all.started) {
			out.ReadySince = all.started
		}
	default:
		out.WasReady = ready != nil && ready.LastTransitionTime.Sub(all.started) > startupSlack
	}
}

// progress is how far the containers of a change have come.
type progress struct {
	running  bool          // all of them, and none is the one before
	started  time.Time     // when the last of them did
	doubt    time.Duration // how long a pod must be ready until it is sure that these are the new ones, and were probed
	restarts uint8
	stuck    bool
}

// add takes the status of one container; nil: there is none. turned says that the pod has become ready since a time.
func (all *progress) add(was *containerChanged, s *corev1.ContainerStatus, turned func(since time.Time) bool) {
	if s == nil {
		all.running = false
		return
	}
	all.restarts = max(all.restarts, uint8(min(max(s.RestartCount-was.Restarts-1, 0), math.MaxUint8)))
	all.stuck = all.stuck || !was.Stuck && s.State.Waiting != nil && stuck(s.State.Waiting.Reason)
	if s.State.Running == nil || s.ContainerID == was.ID {
		all.running = false
		return
	}
	began := s.State.Running.StartedAt.Time
	if began.After(all.started) {
		all.started = began
	}
	if s.ImageID == was.ImageID {
		all.doubt = max(all.doubt, time.Duration(was.Ends)*time.Second)
	}
	if was.Probed > 0 && !turned(began) {
		all.doubt = max(all.doubt, time.Duration(was.Probed)*time.Second)
	}
}
