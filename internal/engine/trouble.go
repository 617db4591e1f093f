package engine

import (
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/delivery"
)

// Who caused a failure? A webhook or policy that refuses, is dead or hangs usually belongs to one
// namespace, and may answer with any code, including 429 and 5xx. So a failure slows down the
// DaemonSet that met it, and slows down all only if no single namespace can be the cause.

// The pauses of a DaemonSet whose writes fail on several nodes in a row. It tries a write now and
// then, and continues with the first success.
const (
	manyTroubled   = 3
	firstLanePause = 250 * time.Millisecond
)

// maxSilence is the longest time for which an answer can stop writes.
const maxSilence = 30 * time.Second

// trouble records the failures of a DaemonSet since one of its writes succeeded.
type trouble struct {
	proven bool // one has, and none has failed since; see prove
	nodes  map[string]bool
	pause  time.Duration
	resume time.Time // nothing of it starts until then
}

// succeeds forgets the trouble.
func (t *trouble) succeeds() {
	t.pause, t.resume = 0, time.Time{}
	clear(t.nodes)
}

// fails takes a write on node that failed in a way that others may share.
func (t *trouble) fails(node string, now time.Time) {
	if t.nodes[node] = true; len(t.nodes) < manyTroubled {
		return
	}
	clear(t.nodes)
	t.pause = min(max(2*t.pause, firstLanePause), delivery.MaxLanePause)
	t.rests(now.Add(t.pause))
}

// throttled takes the answer that there are too many requests. The pause is as long as the server
// asks for, and grows while no write succeeds: a webhook may always ask for the same. Writes that
// were under way when it began prove nothing new.
func (t *trouble) throttled(asked time.Duration, now time.Time) {
	if !t.resume.After(now) {
		t.pause = min(max(2*t.pause, asked), max(delivery.MaxLanePause, asked))
		asked = t.pause
	}
	t.rests(now.Add(asked))
}

// troubled reports whether there is something to remember.
func (t *trouble) troubled() bool { return len(t.nodes) > 0 || !t.resume.IsZero() }

func (t *trouble) rests(until time.Time) {
	if until.After(t.resume) {
		t.resume = until
	}
}

// fare is the outcome of the last write of a namespace.
type fare uint8

const (
	fareUnknown fare = iota
	fareGood
	fareThrottled
	fareLost
)

// The server is the cause when several namespaces have trouble and nobody succeeds. For goodFor
// after a success it is not considered the cause. When the server throttles, it is not considered
// the cause as long as more namespaces were served than refused.
const (
	goodFor  = 2 * time.Second
	fareLast = time.Minute
)

// account adapts the windows, and postpones writes that would fail the same way.
func (a *applier) account(l *lane, w *write, r result, now time.Time) {
	switch r.fate {
	case delivery.OK:
		a.all.grow()
		l.win.grow()
		a.prove(l, true)
		l.succeeds()
		l.tenant.fares(fareGood, now)
		a.lastGood = now
		if w.create != nil {
			w.state.admit(classOf(w.ds))
			l.rank = rankOf(w)
			clear(l.overQuota)
			l.quotaWait = 0
		}
	case delivery.Throttled:
		l.win.shrink(now)
		a.prove(l, false)
		l.throttled(r.wait, now)
		if !r.own {
			l.tenant.fares(fareThrottled, now)
			a.throttle(r.wait, now)
		}
	case delivery.Unknown:
		a.lost(l, w, r.own, now)
	case delivery.OverQuota:
		l.win.shrink(now)
		l.overQuota[w.node()] = true
		if len(l.overQuota) >= delivery.ManyOverQuota {
			clear(l.overQuota)
			l.quotaWait = min(max(2*l.quotaWait, time.Second), delivery.MaxRetry)
			a.putOff(l, now.Add(l.quotaWait), "create: the quota of the namespace is used up")
		}
	case delivery.Terminating:
		a.putOff(l, now.Add(delivery.MaxRetry), "create: the namespace is being deleted")
	}
}

// lost takes a write whose outcome is not known. own says that its namespace is the cause.
func (a *applier) lost(l *lane, w *write, own bool, now time.Time) {
	l.win.shrink(now)
	l.fails(w.node(), now)
	a.prove(l, false)
	if own {
		return
	}
	l.tenant.fares(fareLost, now)
	several := 0
	for _, t := range a.tenants {
		if t.fared == fareLost && t.faredAt.After(a.lastGood) {
			several++
		}
	}
	if several > 1 && now.Sub(a.lastGood) >= goodFor {
		a.all.shrink(now)
	}
}

// prove records whether the last writes of the lane succeeded.
func (a *applier) prove(l *lane, is bool) {
	if l.proven != is {
		l.proven = is
		if is {
			a.proven++
		} else {
			a.proven--
		}
	}
}

// throttle holds all writes back when the server asks for it.
func (a *applier) throttle(wait time.Duration, now time.Time) {
	good, silenced := 0, 0
	for _, t := range a.tenants {
		switch {
		case now.Sub(t.faredAt) > fareLast:
		case t.fared == fareGood:
			good++
		case t.fared == fareThrottled:
			silenced++
		}
	}
	if silenced < 2 || silenced <= good {
		return
	}
	a.all.shrink(now)
	if until := now.Add(wait); until.After(a.resume) {
		a.resume = until
	}
}

// byNamespace reports whether the cause of a failed write may lie in its namespace alone. The API server answers with an
// internal error, which names no webhook, when the patch of a webhook does not apply to the object. What its store says
// has no such reason.
func byNamespace(err error) bool {
	return byAdmission(err) || apierrors.ReasonForError(err) == metav1.StatusReasonInternalError
}

// byAdmission reports whether an error comes from admission in a namespace: a webhook that
// refused or could not be called, or a policy.
func byAdmission(err error) bool {
	text := err.Error()
	for _, sign := range []string{"admission webhook", "failed calling webhook", "denied request", "denied the request"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
