package engine

import (
	"fmt"
	"path"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// webhook is an admission webhook for the requests that it names; an empty field
// matches all. resource may have a subresource, as in "daemonsets/status".
type webhook struct {
	verb, resource, namespace, name string
	// takes is how long it takes to answer. A client that does not wait that long loses
	// its request.
	takes time.Duration
	// refuses is the HTTP status code of its answer; zero: it lets the request pass.
	// retryAfter goes with the code, in seconds.
	refuses, retryAfter int
}

func (w *webhook) concerns(r request) bool {
	fits := func(want, got string) bool { return want == "" || want == got }
	return r.verb != "get" && r.verb != "list" && r.verb != "watch" && fits(w.verb, r.verb) &&
		fits(w.resource, path.Join(r.resource, r.sub)) && fits(w.namespace, r.namespace) && fits(w.name, r.name)
}

// admit sets the webhooks, instead of the current ones.
func (f *fakeAPI) admit(hooks ...webhook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.webhooks = hooks
}

// admitted asks each webhook that the request concerns, one after the other.
func (f *fakeAPI) admitted(r request) error {
	f.mu.Lock()
	hooks := f.webhooks
	f.mu.Unlock()
	for i := range hooks {
		w := &hooks[i]
		if !w.concerns(r) {
			continue
		}
		if w.takes > 0 && !sleep(r.ctx, w.takes) {
			return r.ctx.Err()
		}
		if w.refuses != 0 {
			return w.refusal()
		}
	}
	return nil
}

// refusal is the error as the API server passes it on: with the webhook's own code.
func (w *webhook) refusal() error {
	reason := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 429: metav1.StatusReasonTooManyRequests,
		500: metav1.StatusReasonInternalError}[w.refuses]
	s := metav1.Status{Status: metav1.StatusFailure, Code: int32(w.refuses), Reason: reason,
		Message: fmt.Sprintf("admission webhook %q denied the request: no %s of %s", "policy.example.com", w.verb, w.resource)}
	if w.retryAfter > 0 {
		s.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(w.retryAfter)}
	}
	return &apierrors.StatusError{ErrStatus: s}
}

// onHostNetwork fills in the host ports of a pod on its node's network. The API server
// does this for pods, and not for templates.
func onHostNetwork(spec *corev1.PodSpec) {
	if !spec.HostNetwork {
		return
	}
	for i := range spec.Containers {
		for j := range spec.Containers[i].Ports {
			if p := &spec.Containers[i].Ports[j]; p.HostPort == 0 {
				p.HostPort = p.ContainerPort
			}
		}
	}
}
