package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"everynode/internal/cli/console"
)

const (
	// answerTime is how long the engine may take to act on a request. It usually takes milliseconds.
	answerTime = 5 * time.Second
	answerPoll = 50 * time.Millisecond
	// askTimes is how often a request is sent if the object changes meanwhile. While a wave soaks, the engine writes
	// it every few seconds.
	askTimes = 4
	// asker is the field manager of users' requests.
	asker = "everynode-rollout"
)

// request is a change of the DaemonSetRollout's spec.
type request struct {
	// spec are the fields that change; nil means that there is nothing to ask for, and said is why.
	spec map[string]any
	said string
}

// isIn reports whether the request that the engine ignored is this one, and not an earlier one.
func (q *request) isIn(ignored string) bool {
	what, _, _ := strings.Cut(ignored, " ")
	return q.spec[what] != nil
}

// ask lets decide look at the current release, and writes what it returns if nobody has changed the release since.
func (t *rolloutTarget) ask(ctx context.Context, decide func(*release) (request, error), waits bool) error {
	var first string
	for range askTimes {
		r, err := t.read(ctx)
		if err != nil {
			return err
		}
		if behind(r) {
			t.console.Warn("warning: the engine has not heeded the last request for %s yet\n", t)
		}
		q, err := decide(r)
		if err != nil {
			return err
		}
		if q.spec == nil {
			return t.console.Say("%s\n", q.said)
		}
		if first != "" && q.said != first {
			return fmt.Errorf("the release has changed while this was asked; it is now %s in phase %s. Ask again if you still want it", r.number(), r.state.Phase)
		}
		first = q.said
		generation, err := t.patch(ctx, r, q.spec)
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return mayBeDone(readError(err), t.mayBeAsked())
		}
		if err := t.console.Say("%s\n", q.said); err != nil || !waits {
			return err
		}
		return t.answer(ctx, generation, q)
	}
	return fmt.Errorf("the DaemonSetRollout %s changes all the time: ask again", t)
}

// mayBeAsked says how users find out whether a request without an answer was saved.
func (t *rolloutTarget) mayBeAsked() string {
	return fmt.Sprintf("whether the request was saved is not known. See `%s`", t.typed("everynode rollout status %s", t))
}

func behind(r *release) bool { return r.Status.ObservedGeneration < r.Generation }

// patch writes the fields, if the object is still the one in r.
func (t *rolloutTarget) patch(ctx context.Context, r *release, spec map[string]any) (generation int64, err error) {
	plain, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return 0, fmt.Errorf("encode the request: %w", err)
	}
	t.explain("kubectl patch daemonsetrollout --namespace %s %s --type merge --patch '%s'", t.namespace, t.name, plain)
	guarded, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": r.ResourceVersion}, "spec": spec})
	if err != nil {
		return 0, fmt.Errorf("encode the request: %w", err)
	}
	o, err := t.kinds.rollouts.Namespace(t.namespace).Patch(ctx, t.name, types.MergePatchType, guarded, metav1.PatchOptions{FieldManager: asker})
	if err != nil {
		return 0, err
	}
	return o.GetGeneration(), nil
}

// answer waits until the engine has observed that generation of the object, and prints the result.
func (t *rolloutTarget) answer(ctx context.Context, generation int64, q request) error {
	var r *release
	err := wait.PollUntilContextTimeout(ctx, answerPoll, answerTime, true, func(ctx context.Context) (bool, error) {
		o, err := t.kinds.rollouts.Namespace(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		r, err = t.known(o)
		return err == nil && r.Status.ObservedGeneration >= generation, err
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the request is saved, but no engine has picked it up within %s: one will when it runs. See `%s`", answerTime, t.typed("everynode rollout status %s", t))
	case err != nil:
		return unanswered{err, fmt.Sprintf("the request is saved, and what became of it is not known. See `%s`", t.typed("everynode rollout status %s", t))}
	case q.isIn(r.state.Ignored):
		return fmt.Errorf("it was ignored: %s", r.state.Ignored)
	}
	width, _ := console.WidthOf(t.console.Out)
	return t.console.Say("%s\n", strings.Join(console.Wrapped(r.Status.Phase+": "+r.Status.Message, width), "\n"))
}

// only returns fields, with the fields of other requests set to nil: a merge patch would keep those.
func only(fields map[string]any, others ...string) map[string]any {
	fields = maps.Clone(fields)
	for _, name := range others {
		fields[name] = nil
	}
	return fields
}
