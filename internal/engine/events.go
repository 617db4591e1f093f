package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// How many events of one DaemonSet are written individually: enough to show each pod of a small set through several
// updates. Beyond that, events are combined and then dropped, so that a large set costs no more.
const (
	eventBurst     = 100
	eventsPerMin   = 6
	eventsPlainMax = 60
	lookUpBurst    = 20
)

// recorder writes events to the DaemonSet. Reasons, texts and the source are
// those of upstream's controller, which people and tools search for; HostPath is ours.
type recorder struct {
	to          record.EventRecorder
	broadcaster record.EventBroadcaster

	mu sync.Mutex
	// allowances drop the events that the broadcaster's correlator would drop, with the same numbers but at a hundredth
	// of the cost. By DaemonSet UID.
	allowances map[types.UID]flowcontrol.PassiveRateLimiter
	// lookUps limits reads that only serve to report something. By DaemonSet UID.
	lookUps map[types.UID]flowcontrol.PassiveRateLimiter
}

func newRecorder(ctx context.Context, client kubernetes.Interface) *recorder {
	b := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		BurstSize: eventBurst, QPS: eventsPerMin / 60., MaxEvents: eventsPlainMax,
	}))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &recorder{
		to:          b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "daemonset-controller"}),
		broadcaster: b,
		allowances:  map[types.UID]flowcontrol.PassiveRateLimiter{},
		lookUps:     map[types.UID]flowcontrol.PassiveRateLimiter{},
	}
}

// forget drops what is remembered of a DaemonSet.
func (r *recorder) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.allowances, uid)
	delete(r.lookUps, uid)
}

// event writes an event about the DaemonSet, if its allowance permits.
func (r *recorder) event(about *appsv1.DaemonSet, kind, reason, text string, args ...any) {
	if r.take(r.allowances, about.UID, eventBurst) {
		r.to.Eventf(about, kind, reason, text, args...)
	}
}

// mayLookUp reports whether a read is allowed that only serves to report something.
func (r *recorder) mayLookUp(uid types.UID) bool { return r.take(r.lookUps, uid, lookUpBurst) }

// take uses one unit of the DaemonSet's allowance, if any is left.
func (r *recorder) take(from map[types.UID]flowcontrol.PassiveRateLimiter, uid types.UID, burst int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := from[uid]
	if a == nil {
		a = flowcontrol.NewTokenBucketPassiveRateLimiter(eventsPerMin/60., burst)
		from[uid] = a
	}
	return a.TryAccept()
}

func (r *recorder) shutdown() { r.broadcaster.Shutdown() }

func (r *recorder) created(w *write, pod string) {
	r.event(w.ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod)
}

func (r *recorder) deleted(w *write) {
	r.event(w.ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", w.remove.Pod)
}

func (r *recorder) changed(w *write) {
	r.event(w.ds, corev1.EventTypeNormal, "SuccessfulChange", "Changed pod where it runs: %v", w.change.Pod)
}

// failed reports what was refused, and on which node, because the pod's name does not show that. It adds what would
// allow the write, if known.
func (r *recorder) failed(w *write, err error) {
	reason := "FailedDelete"
	switch {
	case w.create != nil:
		reason, err = "FailedCreate", view.WithAllowCommand(w.ds.Namespace, err)
	case w.change != nil:
		reason = "FailedChange"
	}
	r.event(w.ds, corev1.EventTypeWarning, reason, "%s", view.RefusedText(w.verb(), w.node(), err))
}

// unclaimed reports that a pod could not be adopted, labelled with the current revision, or released.
func (r *recorder) unclaimed(ds *appsv1.DaemonSet, node, pod string, err error) {
	r.event(ds, corev1.EventTypeWarning, "FailedClaim", "%s", view.RefusedText(view.RefusedClaim, node, fmt.Errorf("pod %s: %w", pod, err)))
}

// found reports that a pod has ended by itself, before it is deleted.
func (r *recorder) found(w *write) {
	d := w.remove
	if d.Reason == plan.PodSucceeded {
		r.event(w.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", w.ds.Namespace, d.Pod, d.Node)
		return
	}
	r.event(w.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", w.ds.Namespace, d.Pod, d.Node)
}

// template reports what pods of a new template may do to their nodes but should not. The system's own agents are
// exempt.
func (r *recorder) template(ds *appsv1.DaemonSet) {
	if ds.Namespace == metav1.NamespaceSystem {
		return
	}
	if warnings := view.HostPathWarnings(&ds.Spec.Template.Spec); len(warnings) > 0 {
		r.event(ds, corev1.EventTypeWarning, "HostPath", "%s", strings.Join(warnings, "; "))
	}
}

// moved reports how far a release has come, when that has changed.
func (r *recorder) moved(ds *appsv1.DaemonSet, before, now *view.DaemonSetRolloutStatus) {
	idle := rollout.Idle.String()
	phase := before.Phase != now.Phase && before.Phase+now.Phase != idle
	reason := before.Reason != now.Reason && (now.Phase == rollout.Held.String() || now.Reason == rollout.APIUnwell.String())
	if phase || reason {
		r.release(ds, now)
	}
	if why, _ := rollout.ReasonOf(now.Reason); now.Phase == idle && now.Reason != before.Reason && why.OfPolicy() {
		r.event(ds, corev1.EventTypeWarning, now.Reason, "%s", now.Message)
	}
	// A request that was acted on stays in the object, and does not concern the next release: only a new request is
	// reported.
	if asked := now.ObservedGeneration != before.ObservedGeneration; asked && now.Ignored != before.Ignored && now.Ignored != "" {
		r.event(ds, corev1.EventTypeWarning, "RequestIgnored", "Release %d does not act on this request: %s", now.Release, now.Ignored)
	}
}

// stands reports why a release does not continue, if its own object does not say it.
func (r *recorder) stands(ds *appsv1.DaemonSet, reason string, why error) {
	r.event(ds, corev1.EventTypeWarning, reason, "The release does not continue: %v", why)
}

// release reports that a release has reached another phase or wave; if a person is needed, the event is a warning.
func (r *recorder) release(ds *appsv1.DaemonSet, s *view.DaemonSetRolloutStatus) {
	kind := corev1.EventTypeNormal
	if s.Phase == rollout.Halted.String() || s.Phase == rollout.Held.String() ||
		s.Phase == rollout.Waiting.String() && s.Reason == rollout.NoneWell.String() || s.Reason == rollout.APIUnwell.String() {
		kind = corev1.EventTypeWarning
	}
	if s.Target == "" { // of which nothing is known yet
		r.event(ds, kind, "Release"+s.Phase, "%s", s.Message)
		return
	}
	r.event(ds, kind, "Release"+s.Phase, "Release %d of %s: %s", s.Release, s.Target, s.Message)
}

func (r *recorder) removalsHeld(ds *appsv1.DaemonSet, what string) {
	r.event(ds, corev1.EventTypeWarning, "RemovalsHeld", "%s", what)
}

func (r *recorder) selectsAll(ds *appsv1.DaemonSet) {
	r.event(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
}
