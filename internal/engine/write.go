package engine

// One write to a pod. Package delivery says which requests to send until the outcome is known;
// send.go sends them. If the write failed, its node is postponed here (fared, with the paces of
// state.go), and the decision after that pause makes the write again, under the same name.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/delivery"
	"everynode/internal/plan"
	"everynode/internal/view"
)

var errNamesTaken = errors.New("other pods have the names")

// perform carries out one write, reports it, and records the outcome for its slot.
func (e *engine) perform(ctx context.Context, w *write) result {
	began := time.Now()
	r, err := e.attempt(ctx, w)
	r.own = err != nil && byNamespace(err)
	now := time.Now()
	e.cfg.Monitor.wrote(w, r.fate, now.Sub(began))
	if r.fate == delivery.Refused && w.remove != nil && w.remove.Reason == plan.NodeReplaced {
		// The server insists that the pod exists, so the kubelet of the current node runs it by
		// now.
		e.index.spare(w.remove.Node, w.remove.UID)
	}
	e.tell(w, &r, err)
	learn := r.learn
	r.learn = func() {
		if w.create != nil && (r.fate == delivery.OK || r.fate == delivery.Unknown) {
			w.state.recall(w, r.fate == delivery.OK, now)
		}
		if learn != nil {
			learn()
		}
		w.state.fared(w, &r, err, now)
	}
	return r
}

// tellStale is how long the pause of a write must have grown before its failure because of
// changes is reported: occasional failures of this kind are normal.
const tellStale = time.Second

var errChanges = errors.New("the object that it was decided on keeps changing")

// tell reports a failure if a person may have to do something about it. Throttling by the server
// itself passes.
func (e *engine) tell(w *write, r *result, err error) {
	switch r.fate {
	case delivery.Refused, delivery.OverQuota, delivery.Unknown:
	case delivery.Throttled:
		if !r.own {
			return
		}
	case delivery.Stale:
		if w.state.pauseOf(w.node(), w.act()) < tellStale {
			return
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", errChanges, err)
		} else {
			err = errChanges
		}
	default:
		return
	}
	e.events.failed(w, err)
	e.log.Warn("a write failed; trying again", "daemonSet", w.key.String(), "node", w.node(), "err", err)
}

// tellStopped reports on the DaemonSet that a required write was refused that does not belong to
// a node, such as its revision or its status.
func (e *engine) tellStopped(ctx context.Context, key types.NamespacedName, err error) {
	fate, _ := judge(ctx, err)
	if set := e.index.set(key); set != nil && (fate == delivery.Refused || fate == delivery.OverQuota || byAdmission(err)) {
		e.events.event(set.ds, corev1.EventTypeWarning, "FailedSync", "%s", blame(err))
	}
}

// fared records the outcome for the slot of a write. Like everything about a write, it is
// recorded when the write ends, so that no decision sees one part without the other.
func (s *state) fared(w *write, r *result, err error, now time.Time) {
	s.reachEnds(w, r)
	s.refusedOrNot(w, r, err, now)
	switch r.fate {
	case delivery.OK:
		s.worked(w.node(), w.act())
		if w.create != nil {
			s.settleName(w.node())
		}
	case delivery.Refused, delivery.OverQuota, delivery.Unknown:
		if w.create != nil && r.fate == delivery.Unknown {
			s.keepName(w, now)
		}
		at := delivery.FailedPace()
		if errors.Is(err, errNamesTaken) {
			at = delivery.TakenPace()
		}
		if w.create != nil {
			s.createFailed(w.node(), at, now, w.blame(err))
		} else {
			s.failed(w.node(), w.act(), at, now, w.blame(err))
		}
	case delivery.Throttled:
		at := delivery.ThrottledPace(r.wait)
		if w.create != nil && r.own {
			s.createFailed(w.node(), at, now, w.blame(err))
		} else {
			s.failed(w.node(), w.act(), at, now, w.blame(err))
		}
	case delivery.Stale:
		// Nothing went wrong, but the pause still grows: a repeated surprise must not become a
		// loop.
		s.failed(w.node(), w.act(), delivery.StalePace(), now, w.blame(err))
	case delivery.Terminating:
		// Nothing can be created here anymore, and nobody needs to be told: the DaemonSet is deleted with its
		// namespace.
		s.putOff(w.node(), w.act(), now.Add(delivery.MaxRetry), w.blame(err))
	}
}

// blame returns what has failed, and why.
func (w *write) blame(err error) string {
	names := w.names
	if name, uid := w.about(); uid != "" {
		names = []string{name}
	}
	return w.verb() + ": " + blame(err, names...)
}

// maxBlame is how much of an error is kept for each postponed node.
const maxBlame = 240

// blame returns the text of an error without the names of pods, so that nodes with the same
// problem share one text.
func blame(err error, names ...string) string {
	if err == nil {
		return "the pod has changed"
	}
	text := err.Error()
	for _, name := range names {
		if name != "" {
			text = strings.ReplaceAll(strings.ReplaceAll(text, strconv.Quote(name)+" ", ""), name, "NAME")
		}
	}
	if len(text) > maxBlame {
		text = strings.ToValidUTF8(text[:maxBlame], "") + "…"
	}
	return unique.Make(text).Value()
}

// attempt carries out one write as package delivery says.
func (e *engine) attempt(ctx context.Context, w *write) (result, error) {
	a := w.attempt()
	if w.remove != nil && ended(w.remove.Reason) && w.state.announce(w.remove.UID) {
		e.events.found(w)
	}
	s := sender{engine: e, w: w}
	for {
		ask := a.Next()
		if ask.Verb == delivery.Done {
			return s.result(a.Outcome())
		}
		r := s.send(ctx, ask)
		a.Answer(time.Now(), r)
	}
}

func (w *write) attempt() *delivery.Attempt {
	switch {
	case w.create != nil:
		return delivery.NewCreate(w.name, w.taken)
	case w.change != nil:
		return delivery.NewChange(w.change.Pod, w.change.UID)
	case w.rests == nil:
		return delivery.NewDelete(w.remove.Pod, w.remove.UID, 0, false)
	}
	return delivery.NewDelete(w.remove.Pod, w.remove.UID, w.rests.version, w.rests.Ready)
}

// newPod returns the pod of a create, as createPod takes it. A pod that waits for the scheduler
// differs from the others of its revision in more than name and node.
func (w *write) newPod(name string) (any, error) {
	mold, err := w.mold()
	if err != nil {
		return nil, err
	}
	if w.create.ByScheduler {
		return view.NewPod(w.ds, w.hash, *w.create, name), nil
	}
	return mold.Pod(name, w.create.Node), nil
}

// side distinguishes, by their revision, pods that may run side by side on a node with surge, or
// that disagreeing engines may create there in a release.
func (w *write) side() string {
	if w.beside {
		return w.hash
	}
	return ""
}

// knows reports whether that pod was known when the create was decided.
func (w *write) knows(pod *corev1.Pod) bool { return slices.Contains(w.known, string(pod.UID)) }

// ours reports whether the pod belongs to this DaemonSet, on this node.
func ours(w *write, pod *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	return ref != nil && isDaemonSet(ref) && ref.UID == w.ds.UID && view.Pod(pod).Node == w.create.Node
}

// removed records what a completed delete means for the back-off.
func (s *state) removed(d *plan.Delete, now time.Time) {
	if ended(d.Reason) {
		s.ended(*d, now)
	}
	if d.Waited {
		s.waited(d.Node, d.Created, now)
	}
}

// ended reports whether a pod is deleted because it ended by itself.
func ended(r plan.Reason) bool {
	return r == plan.PodFailed || r == plan.PodSucceeded || r == plan.PodRefused
}

// pauses yields growing pauses until ctx ends.
func pauses(ctx context.Context) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		for d := 50 * time.Millisecond; ctx.Err() == nil; d = min(2*d, 2*time.Second) {
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
