package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// requests is what the answers of the API server show.
type requests struct {
	mu sync.Mutex
	// failing has the resources that currently cannot be followed.
	failing   map[string]failure
	standings map[*meter]*standing
	// denied means that a request was forbidden since the last check.
	denied    bool
	skew      time.Duration
	skewAt    time.Time // when it was measured; zero: never
	skewNoted bool      // the log has said that it is large
}

// failure is what keeps a resource from being followed, and since when.
type failure struct {
	since time.Time
	what  string
}

// problems returns what the API server refuses, and which resources cannot be followed.
func (r *requests) problems() (wrong []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.refused(); !f.since.IsZero() {
		wrong = append(wrong, fmt.Errorf("refused by the API server since %s: %s", f.since.UTC().Format(time.RFC3339), f.what))
	}
	for _, resource := range slices.Sorted(maps.Keys(r.failing)) {
		f := r.failing[resource]
		wrong = append(wrong, fmt.Errorf("cannot follow %s since %s: %s", resource, f.since.UTC().Format(time.RFC3339), f.what))
	}
	return wrong
}

// wasDenied reports whether a request was forbidden since the last call.
func (r *requests) wasDenied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.denied
	r.denied = false
	return was
}

// metered returns a configuration whose requests are counted.
func (m *Monitor) metered(base *rest.Config, log *slog.Logger) *rest.Config {
	c := rest.CopyConfig(base)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &meter{next: next, to: m, as: base, log: log} })
	return c
}

// meter counts requests on their way to the API server.
type meter struct {
	next http.RoundTripper
	to   *Monitor
	as   *rest.Config // who we are
	log  *slog.Logger
}

// RoundTrip implements http.RoundTripper.
func (t *meter) RoundTrip(req *http.Request) (*http.Response, error) {
	verb, resource := aim(req)
	began := time.Now()
	resp, err := t.next.RoundTrip(req)
	now := time.Now()
	code := "error"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
		t.to.requests.readClock(resp, began, now, t.log)
		if resp.StatusCode != http.StatusUnauthorized || req.Method == http.MethodGet || resource == leases {
			t.to.requests.noteIdentity(t, resp.StatusCode, began, now) // admission may answer a write with 401, too
		}
	}
	t.to.answers.WithLabelValues(verb, resource, code).Inc()
	if verb != "watch" {
		t.to.answerTook.WithLabelValues(verb, resource).Observe(now.Sub(began).Seconds())
	}
	t.to.requests.note(verb, resource, resp, err)
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper.
func (t *meter) WrappedRoundTripper() http.RoundTripper { return t.next }

// note remembers what prevents a resource from being followed.
func (r *requests) note(verb, resource string, resp *http.Response, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && resp.StatusCode == http.StatusForbidden && resource != runtimeClasses {
		r.denied = true
	}
	if verb != "list" && verb != "watch" || !slices.Contains(followed(), resource) || errors.Is(err, context.Canceled) {
		return
	}
	switch {
	case err == nil && (resp.StatusCode < 400 || resp.StatusCode == http.StatusGone):
		delete(r.failing, resource)
		return
	case err == nil && resp.StatusCode == http.StatusUnauthorized:
		err = apierrors.NewUnauthorized(resp.Status)
	case err == nil:
		err = errors.New(resp.Status)
	}
	f, known := r.failing[resource]
	if !known {
		f.since = time.Now()
	}
	f.what = verb + ": " + explain(err).Error()
	r.failing[resource] = f
}

// followed returns the resources that the index is built from.
func followed() []string { return []string{"daemonsets", "controllerrevisions", "nodes", "pods"} }

// How often the clocks are compared, how quick an answer must be to be usable, and which difference is too much.
const (
	skewEvery  = time.Minute
	skewAnswer = 500 * time.Millisecond
	skewLarge  = 10 * time.Second
)

// readClock compares the clock with that of the API server now and then, to a precision of one second.
func (r *requests) readClock(resp *http.Response, began, now time.Time, log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(began) > skewAnswer || !r.skewAt.IsZero() && now.Sub(r.skewAt) < skewEvery {
		return
	}
	server, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	r.skew, r.skewAt = now.Sub(server.Add(time.Second/2)).Round(time.Second), now
	if large := r.skew.Abs() > skewLarge; large != r.skewNoted {
		if r.skewNoted = large; large {
			log.Warn("the clocks of this machine and of the API server differ; times in statuses and events are wrong by as much: set both by NTP",
				"ahead", r.skew.String())
		}
	}
}

// clockSkew returns how far our clock is ahead.
func (r *requests) clockSkew() (ahead time.Duration, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skew, !r.skewAt.IsZero()
}

// maxSkew is how far our clock may differ from the API server's for a release to continue: windows, and how long a pod
// takes to start, depend on both.
const maxSkew = time.Minute

func (m *Monitor) clockIsOff() bool {
	ahead, known := m.requests.clockSkew()
	return known && ahead.Abs() > maxSkew
}

// aim returns the verb and resource of a request, as permissions name them. There are few of either.
func aim(req *http.Request) (verb, resource string) {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		parts = parts[3:]
	default:
		return strings.ToLower(req.Method), "other"
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource = parts[0]
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	switch req.Method {
	case http.MethodPost:
		return "create", resource
	case http.MethodPut:
		return "update", resource
	case http.MethodGet:
		switch {
		case req.URL.Query().Get("watch") != "":
			return "watch", resource
		case len(parts) == 1:
			return "list", resource
		}
	}
	return strings.ToLower(req.Method), resource
}
