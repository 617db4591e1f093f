package lookout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// feed is how well resources of a cluster are followed: whether all of them were read, what keeps them from being
// followed, and whether anything is new. Its lock also protects the objects that are read.
type feed struct {
	client  kubernetes.Interface
	changed chan struct{} // has a value while something is new

	began time.Time

	mu      sync.Mutex
	unread  map[string]bool    // resources that were not read yet
	failing map[string]failure // by resource
	fatal   error              // nothing more can be seen, and why
}

func newFeed(client kubernetes.Interface) *feed {
	return &feed{client: client, changed: make(chan struct{}, 1), began: time.Now(), unread: map[string]bool{}, failing: map[string]failure{}}
}

// expect makes the resources count as unread until each was read once.
func (f *feed) expect(sources []*source) {
	for _, s := range sources {
		f.unread[s.name] = true
	}
}

// failure is why a resource cannot be followed, and since when.
type failure struct {
	since time.Time
	err   error
}

// Changed gets a value when a new picture may look different.
func (f *feed) Changed() <-chan struct{} { return f.changed }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// note records whether a resource could be followed just now. If reading it is forbidden from the start, nothing will
// ever be seen.
func (f *feed) note(resource string, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, known := f.failing[resource]; {
	case err == nil && known:
		delete(f.failing, resource)
	case err == nil || errors.Is(err, context.Canceled) || passing(err):
		return
	case len(f.unread) > 0 && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
		f.fatal = fmt.Errorf("follow the %s: %w", resource, err)
	case known:
		return
	default:
		f.failing[resource] = failure{now, err}
	}
	poke(f.changed)
}

// passing reports whether the server works and only refused the request: the version was too old, or it does not have
// that way to list. The next request differs and is sent at once.
func passing(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err) || apierrors.IsTimeout(err) && apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// Unread is what keeps the first picture away.
type Unread struct {
	// Text says what was not read yet, since when, and why; empty: everything was read once.
	Text string
	// Failed means that a request has failed. Otherwise all that is known is that there is no answer yet.
	Failed bool
	// Since is when the first request was sent.
	Since time.Time
}

// Unread returns what was not read yet.
func (f *feed) Unread() Unread {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := Unread{Since: f.began}
	if len(f.unread) == 0 {
		return u
	}
	if u.Text = f.stale(); u.Text != "" {
		u.Failed = true
	} else {
		u.Text = fmt.Sprintf("since %s, no answer yet: %s", clock(f.began, f.began), strings.Join(slices.Sorted(maps.Keys(f.unread)), ", "))
	}
	return u
}

// stale returns since when what is seen may be out of date, and why; "" if it is up to date.
func (f *feed) stale() string {
	var first failure
	resource := ""
	for _, name := range slices.Sorted(maps.Keys(f.failing)) {
		if one := f.failing[name]; resource == "" || one.since.Before(first.since) {
			resource, first = name, one
		}
	}
	if resource == "" {
		return ""
	}
	err := first.err
	if request := (*url.Error)(nil); errors.As(err, &request) {
		err = request.Err // the text names the resource already
	}
	return fmt.Sprintf("since %s, trying again: %s: %v", clock(first.since, first.since), resource, err)
}
