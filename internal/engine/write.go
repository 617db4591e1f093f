package engine

// One write to a pod, from the request until it is known what became of it. A create
// is tried again here: at once under the next name if another pod has the first (create),
// and after a live read if the answer was lost (settleCreate). If it failed, its node
// is put off (fared, in the paces of state.go), and the decision after that pause makes
// it again, under the same name.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// shortPause is how long a slot rests after something about it was learned.
const shortPause = 100 * time.Millisecond

// maxTries is how many names are tried for one pod, besides those that pods of the
// DaemonSet are known to have. The second is needed only when a pod that is not
// known has the first.
const maxTries = 8

var errNamesTaken = errors.New("other pods have the names")

// perform carries out one write, reports it, and remembers how its slot fared.
func (e *engine) perform(ctx context.Context, w *write) result {
	began := time.Now()
	r, err := e.attempt(ctx, w)
	r.own = err != nil && byAdmission(err)
	now := time.Now()
	e.cfg.Monitor.wrote(w, r.fate, now.Sub(began))
	switch r.fate {
	case refused, overQuota, unknown:
		if w.remove != nil && w.remove.Reason == plan.NodeReplaced && r.fate == refused {
			// The server insists on it, and the kubelet of the present node has
			// it to run by now.
			e.index.spare(w.remove.Node, w.remove.UID)
		}
		e.events.failed(w, err)
		e.log.Warn("a write failed; its node is tried again", "daemonSet", w.key.String(), "node", w.node(), "error", err)
	}
	learn := r.learn
	r.learn = func() {
		if learn != nil {
			learn()
		}
		w.state.fared(w, &r, err, now)
	}
	return r
}

// fared remembers how the slot of a write has fared. Like all that a write
// teaches it is learned when the write ends, so that no decision sees one part of
// it without the other.
func (s *state) fared(w *write, r *result, err error, now time.Time) {
	switch r.fate {
	case done:
		s.worked(w.node())
	case refused, overQuota, unknown:
		at := failedPace()
		if errors.Is(err, errNamesTaken) {
			at = takenPace()
		}
		if w.create != nil {
			s.createFailed(w.node(), at, now, w.blame(err))
		} else {
			s.failed(w.node(), at, now, w.blame(err))
		}
	case throttled:
		s.putOff(w.node(), now.Add(max(r.wait, shortPause)), w.blame(err))
	case stale:
		// Nothing went wrong, and yet the pause grows: whatever was learned, it
		// must not send us round in circles.
		s.failed(w.node(), stalePace(), now, w.blame(err))
	case terminating:
		// Nothing can be created here any more, and nobody needs to be told:
		// the DaemonSet goes with its namespace.
		s.putOff(w.node(), now.Add(maxRetry), w.blame(err))
	}
}

// blame says what has failed, and why.
func (w *write) blame(err error) string {
	if w.create != nil {
		return "create: " + blame(err, w.names...)
	}
	return "delete: " + blame(err, w.remove.Pod)
}

// maxBlame is how much of an error is kept for each node that is put off.
const maxBlame = 240

// blame is the text of an error without the names of pods, so that those of many
// nodes that fare alike are one.
func blame(err error, names ...string) string {
	if err == nil {
		return "the pod has changed"
	}
	text := err.Error()
	for _, name := range names {
		text = strings.ReplaceAll(text, strconv.Quote(name)+" ", "")
	}
	if len(text) > maxBlame {
		text = strings.ToValidUTF8(text[:maxBlame], "") + "…"
	}
	return unique.Make(text).Value()
}

func (e *engine) attempt(ctx context.Context, w *write) (result, error) {
	if w.create != nil {
		return e.create(ctx, w)
	}
	return e.remove(ctx, w)
}

// create makes one pod. Its name is a function of what it is for, so that doing
// it twice makes one pod: what is found under the name, if ours, is it. That
// holds of two controllers, too, and of two that disagree on the template.
func (e *engine) create(ctx context.Context, w *write) (result, error) {
	for name := range w.freeNames() {
		e.apply.naming(w, name)
		pod, err := w.newPod(name)
		if err != nil {
			return result{fate: refused}, err
		}
		made, err := e.api.createPod(ctx, w.key.Namespace, pod)
		if apierrors.IsAlreadyExists(err) {
			r, taken := e.claimName(ctx, w, name)
			if taken {
				continue
			}
			return r, err
		}
		fate, wait := judge(ctx, err)
		switch fate {
		case done:
			e.tellPorts(ctx, w, made)
			return e.created(w, made), nil
		case unknown:
			return e.settleCreate(ctx, w, name, err)
		case stale:
			fate = refused // the namespace is not there: nothing that a new read would mend
		case refused:
			if gated(err) && !w.create.ByScheduler {
				w.state.waited(w.node(), time.Now(), time.Now())
			}
		}
		return result{fate: fate, wait: wait}, err
	}
	err := fmt.Errorf("%w: %d names for the pod of node %s; delete or rename those pods", errNamesTaken, maxTries, w.create.Node)
	return result{fate: refused}, err
}

// created is the result of a create that happened.
func (e *engine) created(w *write, pod *corev1.Pod) result {
	e.events.created(w, pod.Name)
	now := time.Now()
	return result{fate: done, learn: func() {
		e.index.acknowledge(pod, w)
		w.state.made(w.node(), w.hash, now)
	}}
}

// freeNames yields the names that a create may try, the same ones each time: those
// of the pods beside which it was decided are passed over. However many of these
// finalizers keep, there is a name for the next.
func (w *write) freeNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for salt, tries := 0, 0; tries < maxTries; salt++ {
			name := view.PodName(w.ds, w.create.Node, w.side(), w.create.Predecessor, salt)
			if slices.Contains(w.taken, name) {
				continue
			}
			if tries++; !yield(name) {
				return
			}
		}
	}
}

// newPod is the pod of a create, as createPod takes it. One that waits for the
// scheduler differs from the others of its revision in more than name and node.
func (w *write) newPod(name string) (any, error) {
	if w.create.ByScheduler {
		return view.NewPod(w.ds, w.hash, *w.create, name), nil
	}
	mold, err := w.mold()
	if err != nil {
		return nil, err
	}
	return mold.Pod(name, w.create.Node), nil
}

// claimName looks at the pod that has a create's name. If it is ours and the
// decision did not know it, it is what the create was for, or what should have
// been decided on: either way it is learned. Else the name is taken.
func (e *engine) claimName(ctx context.Context, w *write, name string) (r result, taken bool) {
	asked := time.Now()
	live, err := e.api.getPod(ctx, w.key.Namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return result{fate: stale}, false
	case err != nil:
		fate, wait := judge(ctx, err)
		return result{fate: fate, wait: wait}, false
	case !ours(w, live) || w.knows(live):
		return result{}, true
	}
	return result{fate: stale, learn: func() {
		e.index.found(live, asked)
		e.index.acknowledge(live, w)
	}}, false
}

// side tells pods apart that may stand side by side on a node: with surge, by
// their revision.
func (w *write) side() string {
	if w.surges {
		return w.hash
	}
	return ""
}

// knows says that the create was decided beside that pod.
func (w *write) knows(pod *corev1.Pod) bool { return slices.Contains(w.known, string(pod.UID)) }

// ours says that the pod belongs to this DaemonSet, on this node.
func ours(w *write, pod *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	return ref != nil && isDaemonSet(ref) && ref.UID == w.ds.UID && view.Pod(pod).Node == w.create.Node
}

// settleCreate finds out what became of a create whose answer was lost. The
// slot stays under way, and so uncertain, until a live read tells. If the pod
// is not there, the create may still arrive: the next try has the same name.
func (e *engine) settleCreate(ctx context.Context, w *write, name string, cause error) (result, error) {
	for range e.settling(ctx, w, cause) {
		live, err := e.api.getPod(ctx, w.key.Namespace, name)
		switch {
		case err == nil && ours(w, live) && !w.knows(live):
			return e.created(w, live), nil
		case err == nil, missing(err, name):
			return result{fate: unknown}, fmt.Errorf("%s and the pod is not there: %w", howLost(cause), cause)
		}
	}
	return result{fate: abandoned}, ctx.Err()
}

// settleRoom is how long a write whose outcome is not known keeps its room.
const settleRoom = 2 * time.Second

// settling yields once for each try to learn what became of a write, until ctx
// ends, with pauses that grow. As long as nobody knows, the slot is under way:
// whatever else was believed of it might be wrong. But others need not wait.
func (e *engine) settling(ctx context.Context, w *write, cause error) func(yield func() bool) {
	return func(yield func() bool) {
		began := time.Now()
		for pause := range growing(ctx, maxRetry) {
			if !yield() || !sleep(ctx, pause) {
				return
			}
			if time.Since(began) >= settleRoom {
				e.apply.giveRoom(w, cause != nil && byAdmission(cause))
			}
		}
	}
}

// remove deletes one pod, and only that one.
func (e *engine) remove(ctx context.Context, w *write) (result, error) {
	d := w.remove
	if ended(d.Reason) && w.state.announce(d.UID) {
		e.events.found(w)
	}
	left, err := e.deleteAs(ctx, w)
	fate, wait := judge(ctx, err)
	switch fate {
	case done:
		e.events.deleted(w)
		if pod, ok := left.(*corev1.Pod); ok && string(pod.UID) == d.UID {
			return e.removed(w, func() { e.learnDeleted(pod, w) }), nil
		}
		return e.settleRemove(ctx, w, nil)
	case stale, unknown:
		return e.settleRemove(ctx, w, err)
	}
	return result{fate: fate, wait: wait}, err
}

// removed is the result of a delete that happened. What it means for the back-off is
// learned together with the rest: a decision in between would see one without the other.
func (e *engine) removed(w *write, learn func()) result {
	now := time.Now()
	return result{fate: done, learn: func() {
		learn()
		if ended(w.remove.Reason) {
			w.state.ended(*w.remove, now)
		}
		if w.remove.Waited {
			w.state.waited(w.node(), w.remove.Created, now)
		}
	}}
}

// learnDeleted takes the pod as a delete left it: gone, when no grace was due
// and nothing holds it, else terminating.
func (e *engine) learnDeleted(pod *corev1.Pod, w *write) {
	grace := pod.DeletionGracePeriodSeconds
	if len(pod.Finalizers) == 0 && (grace == nil || *grace == 0) {
		e.index.bury(string(pod.UID))
		return
	}
	e.index.acknowledge(pod, w)
}

// settleRemove finds out by a live read how a pod fares whose delete had no
// certain answer (cause), or was refused because the pod had changed.
func (e *engine) settleRemove(ctx context.Context, w *write, cause error) (result, error) {
	d := w.remove
	for range e.settling(ctx, w, cause) {
		asked := time.Now()
		live, err := e.api.getPod(ctx, w.key.Namespace, d.Pod)
		gone := missing(err, d.Pod) || err == nil && string(live.UID) != d.UID
		switch {
		case gone:
			return e.removed(w, func() { e.index.bury(d.UID) }), nil
		case err == nil && live.DeletionTimestamp != nil:
			return e.removed(w, func() { e.index.acknowledge(live, w) }), nil
		case err == nil:
			learn := func() { e.index.found(live, asked) }
			if f, _ := judge(ctx, cause); f == unknown {
				return result{fate: unknown, learn: learn}, fmt.Errorf("%s and the pod is still there: %w", howLost(cause), cause)
			}
			return result{fate: stale, learn: learn}, cause
		}
	}
	return result{fate: abandoned}, errors.Join(ctx.Err(), cause)
}

// ended says that a pod is deleted because it came to an end by itself.
func ended(r plan.Reason) bool {
	return r == plan.PodFailed || r == plan.PodSucceeded || r == plan.PodRefused
}

// pauses yields growing pauses until ctx ends.
func pauses(ctx context.Context) func(yield func(time.Duration) bool) {
	return growing(ctx, 2*time.Second)
}

func growing(ctx context.Context, longest time.Duration) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		for d := 50 * time.Millisecond; ctx.Err() == nil; d = min(2*d, longest) {
			if !yield(d) {
				return
			}
		}
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
