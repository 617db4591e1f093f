package admission

import (
	"context"
	"fmt"
	"slices"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// A node, and the holder of a token, can make requests without end that cannot be approved. They are
// bounded, and those of others do not wait for them.
const (
	// waitingOfNode and waitingOfToken are how many requests of a user wait. One more, and the one that
	// has waited longest is deleted: a kubelet waits for its last request only. Many machines may have
	// the same token.
	waitingOfNode  = 8
	waitingOfToken = 256
	// waitingFor is how long a request waits before it is deleted. Kubernetes deletes a request after
	// that time as well, but not if it has a condition, such as our reason.
	waitingFor = 24 * time.Hour
	// lookAgain and lookAgainAtMost bound the time after which a waiting request is looked at although
	// its Node has not changed: it may wait for something else.
	lookAgain       = 30 * time.Second
	lookAgainAtMost = 2 * time.Minute
	// turnEvery is how often a new request is looked at of a user of whom as many wait as may.
	turnEvery = 50 * time.Millisecond
)

// lookAfter returns when to look again at a waiting request: each time after about twice the time.
func lookAfter(age time.Duration) time.Duration {
	return min(max(age, lookAgain), lookAgainAtMost)
}

// waiting knows which requests wait, and who made them. It is not safe for concurrent use.
type waiting struct {
	of    map[string][]string  // the names of a user's requests, the one that has waited longest first
	user  map[string]string    // by the names of these requests
	turns map[string]time.Time // when it is the turn of a request that was not looked at yet
	last  map[string]time.Time // the last turn of a user's requests
}

func newWaiting() *waiting {
	return &waiting{of: map[string][]string{}, user: map[string]string{}, turns: map[string]time.Time{}, last: map[string]time.Time{}}
}

// mayWait returns how many requests may wait of the user who made one.
func mayWait(csr *certv1.CertificateSigningRequest) int {
	if requester(csr) != "" {
		return waitingOfNode
	}
	return waitingOfToken
}

// turn returns in how long a request should be looked at; zero: now.
func (w *waiting) turn(csr *certv1.CertificateSigningRequest, now time.Time) time.Duration {
	name, user := csr.Name, csr.Spec.Username
	at, queued := w.turns[name]
	switch {
	case w.user[name] != "":
		return 0
	case !queued && len(w.of[user]) < mayWait(csr):
		return 0
	case !queued:
		at = now.Add(turnEvery)
		if next := w.last[user].Add(turnEvery); next.After(at) {
			at = next
		}
		w.turns[name], w.last[user] = at, at
	case !now.Before(at):
		delete(w.turns, name)
		return 0
	}
	return at.Sub(now)
}

// add notes that a request waits. If more wait of that user than may, it returns the one that has waited longest.
func (w *waiting) add(csr *certv1.CertificateSigningRequest) (tooMany string) {
	user := csr.Spec.Username
	if w.user[csr.Name] != "" {
		return ""
	}
	w.user[csr.Name] = user
	w.of[user] = append(w.of[user], csr.Name)
	if len(w.of[user]) <= mayWait(csr) {
		return ""
	}
	tooMany = w.of[user][0]
	w.forget(tooMany)
	return tooMany
}

// forget notes that a request no longer waits.
func (w *waiting) forget(name string) {
	user := w.user[name]
	delete(w.user, name)
	delete(w.turns, name)
	w.of[user] = slices.DeleteFunc(w.of[user], func(n string) bool { return n == name })
	if len(w.of[user]) == 0 {
		delete(w.of, user)
		delete(w.last, user)
	}
}

// drop deletes a request that waits, unless it was decided meanwhile.
func (c *nodeController) drop(ctx context.Context, name, because string) error {
	c.waiting.forget(name)
	csr, err := c.csrs.Get(name)
	if apierrors.IsNotFound(err) || err == nil && !undecided(csr) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the certificate request %s: %w", name, err)
	}
	err = c.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &csr.UID, ResourceVersion: &csr.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the certificate request %s, because %s: %w", name, because, err)
	}
	klog.InfoS("Deleted a request for a certificate of a node", "csr", name, "user", csr.Spec.Username, "because", because)
	return nil
}
