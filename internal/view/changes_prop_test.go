package view

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"everynode/internal/plan"
)

// worker is a kubelet with one pod. It works as kubelet 1.37 does: each round begins with a report of the existing containers,
// under the newest generation, and only then gives the pod the containers that it asked for when the round began. What comes
// meanwhile waits for the next round.
type worker struct {
	t       *rapid.T
	pod     *corev1.Pod
	boxes   [2]box
	images  map[string]string // of every container that existed, by ID: no status shows it
	wants   []string          // the images of the current round; nil: there is none
	now     int64             // the time, in seconds
	busy    int               // how many seconds the current round has taken
	made    int
	known   plan.Pod // the pod as the engine knows it
	since   int64    // since when it has been ready, as the engine has seen it
	deleted int
}

// box is a container.
type box struct {
	id, image string
	running   bool
	restarts  int32
	began     int64
}

func (w *worker) template(revision string) *corev1.PodTemplateSpec {
	image := map[string]string{"a": "x:1", "b": "x:2", "c": "x:3", "d": "mirror/x:1", "e": "x:1"}[revision]
	beside := map[string]string{"e": "y:2"}[revision]
	if beside == "" {
		beside = "y:1"
	}
	return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(5)), Containers: []corev1.Container{{Name: "c", Image: image}, {Name: "beside", Image: beside}}}}
}

// content returns the ID of an image: d has the same content as a under another name.
func content(image string) string {
	if image == "mirror/x:1" {
		return "sha-x:1"
	}
	return "sha-" + image
}

func (w *worker) start(revision string) {
	t := w.template(revision)
	w.wants, w.busy, w.since, w.known = nil, 0, 0, plan.Pod{}
	w.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", ResourceVersion: "1", Generation: 1, Labels: map[string]string{"app": "agent", appsv1.DefaultDaemonSetUniqueLabelKey: revision}},
		Spec: *t.Spec.DeepCopy(), Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: new(second(w.now)),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: second(w.now)}}}}
	w.boxes = [2]box{}
	for i := range w.boxes {
		w.runs(i, t.Spec.Containers[i].Image)
	}
	w.report()
}

func (w *worker) runs(i int, image string) {
	w.made++
	id := fmt.Sprintf("id-%d", w.made)
	restarts := w.boxes[i].restarts
	if w.boxes[i].id != "" {
		restarts++
	}
	w.boxes[i] = box{id, image, true, restarts, w.now}
	w.images[id] = image
}

// report reports the existing containers, under the newest generation. A container that runs is ready.
func (w *worker) report() {
	s := &w.pod.Status
	s.ObservedGeneration, s.ContainerStatuses = w.pod.Generation, nil
	ready := corev1.ConditionTrue
	for i, b := range w.boxes {
		status := corev1.ContainerStatus{Name: w.pod.Spec.Containers[i].Name, ContainerID: b.id, ImageID: content(b.image), RestartCount: b.restarts, Ready: b.running}
		if b.running {
			status.State.Running = &corev1.ContainerStateRunning{StartedAt: second(b.began)}
		} else {
			status.State.Waiting, ready = &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}, corev1.ConditionFalse
		}
		s.ContainerStatuses = append(s.ContainerStatuses, status)
	}
	w.turn(ready)
}

func (w *worker) turn(ready corev1.ConditionStatus) {
	if c := &w.pod.Status.Conditions[0]; c.Status != ready {
		c.Status, c.LastTransitionTime = ready, second(w.now)
	}
}

// begin begins a round, if there is something to do.
func (w *worker) begin() {
	if w.wants != nil {
		return
	}
	w.report()
	for i, c := range w.pod.Spec.Containers {
		if w.boxes[i].image != c.Image || !w.boxes[i].running {
			w.wants, w.busy = []string{w.pod.Spec.Containers[0].Image, w.pod.Spec.Containers[1].Image}, 0
		}
	}
}

// finish completes the current round, and begins the next one. Images in bad can never be pulled.
func (w *worker) finish(bad map[string]bool) {
	if w.wants == nil {
		return
	}
	for i, image := range w.wants {
		switch {
		case w.boxes[i].image == image && w.boxes[i].running:
		case bad[image]:
			w.boxes[i].running = false
		default:
			w.runs(i, image)
		}
	}
	w.wants = nil
	w.begin()
}

// change changes the pod to the revision, or replaces it, as the engine would.
func (w *worker) change(to string) {
	was := w.pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	from, ds := w.template(was), &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: *w.template(to)}}
	switch {
	case was == to:
		return
	case NotInPlace(from, &ds.Spec.Template) != nil, w.known.Unchangeable, w.doubtful(), Unfit(w.pod, from, &ds.Spec.Template, nil) != nil:
		w.deleted++
		w.start(to)
		return
	}
	patch, err := ChangeInPlace(w.pod, from, ds, to, second(w.now).Time)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := apply(w.pod, patch); err != nil {
		w.t.Fatal(err)
	}
}

// see is what the engine does with each version of the pod.
func (w *worker) see() {
	old, now := w.known, Pod(w.pod)
	begins := !old.Changed.Equal(now.Changed) || old.Changing && old.Settles == 0 && (!now.Changing || now.Settles > 0)
	if now.Ready && (!old.Ready || begins || !old.ReadySince.Equal(now.ReadySince)) {
		w.since = w.now
	}
	w.known = now
}

func (w *worker) doubtful() bool {
	p := &w.known
	return p.Ready && p.Changing && (p.Settles == 0 || second(w.since).Add(p.Settles).After(second(w.now).Time))
}

// check fails the test if the pod counts although a container of it is not of its revision.
func (w *worker) check() {
	if !w.known.Ready || w.doubtful() {
		return
	}
	for i, c := range w.pod.Spec.Containers {
		if s := w.pod.Status.ContainerStatuses[i]; w.images[s.ContainerID] != c.Image {
			w.t.Fatalf("it counts as one of %s, and its container %s runs %s: %+v", w.pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], c.Name, w.images[s.ContainerID], w.known)
		}
	}
}

// Whenever a changed pod counts, however soon it was changed again, it runs what it asks for; and however its kubelet was
// interrupted, in the end it counts.
func TestPropChangesInQuickSuccession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &worker{t: t, images: map[string]string{}}
		w.start("a")
		bad := map[string]bool{}
		step := func(name string, do func()) {
			do()
			w.see()
			w.check()
			t.Logf("%4d %-7s %+v", w.now, name, w.boxes)
		}
		step("start", func() {})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"change", "change", "begin", "begin", "finish", "finish", "crash", "probe", "wait", "pull"}).Draw(t, "step") {
			case "change":
				to := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "to")
				step("to "+to, func() { w.change(to) })
			case "begin":
				step("begin", w.begin)
			case "finish":
				step("finish", func() { w.finish(bad) })
			case "crash":
				i := rapid.IntRange(0, 1).Draw(t, "which")
				step("crash", func() { // and it is restarted, unless a round is under way
					if w.wants == nil && w.boxes[i].running {
						w.runs(i, w.boxes[i].image)
					}
				})
			case "probe": // its result changes what was last reported, under the newest generation
				ready := rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "ready")
				step("probe", func() {
					w.pod.Status.ObservedGeneration = w.pod.Generation
					if w.boxes[0].running && w.boxes[1].running {
						w.turn(ready)
					}
				})
			case "wait":
				for range rapid.SampledFrom([]int{1, 5, 60}).Draw(t, "seconds") {
					if w.wants != nil && w.busy >= 10 {
						break
					}
					w.now++
					w.busy++
				}
				step("wait", func() {})
			case "pull":
				image := rapid.SampledFrom([]string{"x:1", "x:2", "x:3"}).Draw(t, "image")
				bad[image] = !bad[image]
			}
		}
		for range 4 {
			step("end", func() { w.finish(nil) })
			step("end", w.begin)
			w.turn(corev1.ConditionTrue)
		}
		w.now += 60
		step("end", func() {})
		if !w.known.Ready || w.doubtful() {
			t.Fatalf("it never counts: %+v", w.known)
		}
	})
}
