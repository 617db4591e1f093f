package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/view"
)

// sender sends the requests of an attempt to the API server, and keeps what the attempt does not know:
// the pods and the errors.
type sender struct {
	*engine
	w     *write
	pod   *corev1.Pod // in the last answer; nil: none
	whole *corev1.Pod // that a change is based on, as it was last read
	asked time.Time   // when the last request was sent
	cause error       // of the last request that should change something
}

func (s *sender) send(ctx context.Context, ask delivery.Request) delivery.Answer {
	s.pod, s.asked = nil, time.Now()
	switch ask.Verb {
	case delivery.Create:
		return s.create(ctx, ask)
	case delivery.Delete:
		return s.remove(ctx, ask)
	case delivery.Change:
		return s.change(ctx, ask)
	case delivery.Get:
		return s.read(ctx, ask)
	case delivery.Yield:
		s.apply.giveRoom(s.w, s.cause != nil && byAdmission(s.cause))
	case delivery.Rest:
		if !sleep(ctx, ask.Pause) {
			return delivery.Answer{Fate: delivery.Stopped}
		}
	}
	return delivery.Answer{}
}

func (s *sender) create(ctx context.Context, ask delivery.Request) delivery.Answer {
	s.apply.naming(s.w, ask.Name)
	pod, err := s.w.newPod(ask.Name)
	if err != nil {
		s.cause = err
		return delivery.Answer{Fate: delivery.Refused}
	}
	made, err := s.api.createPod(ctx, s.w.key.Namespace, pod)
	s.cause = err
	a := answer(ctx, err)
	a.Exists = apierrors.IsAlreadyExists(err)
	switch {
	case err == nil:
		s.pod = made
		s.tellPorts(ctx, s.w, made)
	case a.Fate == delivery.Refused && gated(err) && !s.w.create.ByScheduler:
		// By the API server's clock, which sets the creation times of pods, it would be newer than any
		// pod of the node.
		s.w.state.waited(s.w.node(), s.w.newest.Add(1), time.Now())
	}
	return a
}

func (s *sender) remove(ctx context.Context, ask delivery.Request) delivery.Answer {
	d := s.w.remove
	uid := types.UID(d.UID)
	opts := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	if d.Now {
		opts.GracePeriodSeconds = new(int64)
	}
	if ask.Version != 0 {
		version := formatVersion(ask.Version)
		opts.Preconditions.ResourceVersion = &version
	}
	left, err := s.api.deletePod(ctx, s.w.key.Namespace, ask.Name, opts)
	s.cause = err
	a := answer(ctx, err)
	a.Conflict = apierrors.IsConflict(err)
	if a.Fate == delivery.OK {
		s.events.deleted(s.w)
	}
	if pod, is := left.(*corev1.Pod); is && err == nil {
		s.pod, a.Pod = pod, s.sight(pod)
	}
	return a
}

// change sends the one request that changes the pod to another revision, if it is still as it was read.
func (s *sender) change(ctx context.Context, ask delivery.Request) delivery.Answer {
	patch, err := view.ChangeInPlace(s.whole, s.w.from, s.w.ds, s.w.hash, time.Now())
	if err != nil {
		s.cause = err
		return delivery.Answer{Fate: delivery.Refused}
	}
	made, err := s.api.patchPod(ctx, s.w.key.Namespace, ask.Name, patch)
	s.cause = err
	a := answer(ctx, err)
	a.Conflict = apierrors.IsConflict(err)
	if err == nil {
		s.pod, a.Pod = made, s.sight(made)
		s.events.changed(s.w)
	}
	return a
}

func (s *sender) get(ctx context.Context, name string) (*corev1.Pod, error) {
	if s.w.change != nil {
		return s.api.getWholePod(ctx, s.w.key.Namespace, name)
	}
	return s.api.getPod(ctx, s.w.key.Namespace, name)
}

func (s *sender) read(ctx context.Context, ask delivery.Request) delivery.Answer {
	live, err := s.get(ctx, ask.Name)
	a := answer(ctx, err)
	a.Missing = missing(err, ask.Name)
	if err != nil {
		return a
	}
	s.pod, a.Pod = live, s.sight(live)
	if s.w.change != nil {
		s.whole, a.Pod.Changed = live, live.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == s.w.hash
		unfit := view.Unfit(live, s.w.from, &s.w.ds.Spec.Template, s.w.like)
		if a.Pod.Unfit = unfit != nil; a.Pod.Unfit && !a.Pod.Changed {
			s.cause = unfit
		}
	}
	if s.w.rests != nil {
		if now, err := compactPod(live); err == nil {
			a.Pod.Version, a.Pod.Alike = now.version, now.alike(s.w.rests)
		}
	}
	return a
}

// answer converts the error of a request.
func answer(ctx context.Context, err error) delivery.Answer {
	fate, wait := judge(ctx, err)
	return delivery.Answer{Fate: fate, Wait: wait}
}

// sight returns what an attempt has to know about a pod.
func (s *sender) sight(pod *corev1.Pod) delivery.Pod {
	grace := pod.DeletionGracePeriodSeconds
	patient := s.w.remove == nil || !s.w.remove.Now
	return delivery.Pod{
		UID:    string(pod.UID),
		Ending: pod.DeletionTimestamp != nil && (patient || grace != nil && *grace == 0),
		Gone:   len(pod.Finalizers) == 0 && (grace == nil || *grace == 0),
		Ours:   s.w.create != nil && ours(s.w, pod) && !s.w.knows(pod),
	}
}

// result returns what the outcome of the attempt means for the engine.
func (s *sender) result(o delivery.Outcome) (result, error) {
	r := result{fate: o.Fate, undone: o.Undone(), wait: o.Wait, learn: s.learn(o)}
	switch {
	case o.NamesTaken:
		return r, fmt.Errorf("%w: %d names for the pod of node %s; delete or rename those pods", errNamesTaken, delivery.MaxNames, s.w.create.Node)
	case o.Fate == delivery.OK:
		if s.w.create != nil {
			s.events.created(s.w, s.pod.Name)
		}
		return r, nil
	case o.Fate == delivery.Unknown && o.Settled && s.w.create != nil:
		return r, fmt.Errorf("%s, and the pod does not exist: %w", howLost(s.cause), s.cause)
	case o.Fate == delivery.Unknown && o.Settled && s.w.change != nil:
		return r, fmt.Errorf("%s, and the pod is unchanged: %w", howLost(s.cause), s.cause)
	case o.Fate == delivery.Unknown && o.Settled:
		return r, fmt.Errorf("%s, and the pod still exists: %w", howLost(s.cause), s.cause)
	}
	return r, s.cause
}

// learn returns what updates the engine's memory with the outcome. The effect of a delete on the
// back-off is recorded together with the rest: a decision in between would see one without the other.
func (s *sender) learn(o delivery.Outcome) func() {
	w, pod, asked, now := s.w, s.pod, s.asked, time.Now()
	lesson := s.lesson(o.Lesson, pod, asked)
	if o.Fate != delivery.OK {
		return lesson
	}
	return func() {
		lesson()
		switch {
		case w.create != nil:
			w.state.made(w.node(), w.edition, now)
		case w.remove != nil:
			w.state.removed(w.remove, now)
		}
	}
}

// lesson returns what updates the index; nil: nothing.
func (s *sender) lesson(l delivery.Lesson, pod *corev1.Pod, asked time.Time) func() {
	w := s.w
	switch l {
	case delivery.Ours:
		return func() { s.index.acknowledge(pod, w) }
	case delivery.Seen:
		return func() { s.index.found(pod, asked) }
	case delivery.Claimed:
		return func() {
			s.index.found(pod, asked)
			s.index.acknowledge(pod, w)
		}
	case delivery.Gone:
		_, uid := w.about()
		return func() { s.index.bury(uid) }
	case delivery.Unfit:
		s.log.Info("a pod cannot be updated in place; updating it by deletion", "daemonSet", w.key.String(), "pod", w.change.Pod, "why", s.cause)
		_, passes := errors.AsType[view.ForNow](s.cause)
		return func() {
			s.index.found(pod, asked)
			s.index.unfit(w.change.UID, !passes)
		}
	}
	return nil
}
