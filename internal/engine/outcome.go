package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/delivery"
)

// judge reads the error of a write. wait is how long the server asks to wait.
func judge(ctx context.Context, err error) (f delivery.Fate, wait time.Duration) {
	switch {
	case err == nil:
		return delivery.OK, 0
	case ctx.Err() != nil:
		return delivery.Stopped, 0
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return delivery.Terminating, 0
	case apierrors.IsTooManyRequests(err):
		seconds, _ := apierrors.SuggestsClientDelay(err)
		return delivery.Throttled, min(max(time.Duration(min(seconds, 3600))*time.Second, delivery.LeastWait), maxSilence)
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return delivery.Stale, 0
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return delivery.OverQuota, 0
	case definite(err):
		return delivery.Refused, 0
	}
	return delivery.Unknown, 0
}

// missing reports whether the API server has answered that there is no object of that name. A less
// specific 404 may come from a proxy, or from a server that does not serve the resource yet: it
// says nothing about the object.
func missing(err error, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	about := status.Status().Details
	return about != nil && about.Name == name &&
		// client-go's, for an answer that is not a Status: it fills in the name that was asked for.
		!slices.ContainsFunc(about.Causes, func(c metav1.StatusCause) bool { return c.Type == metav1.CauseTypeUnexpectedServerResponse })
}

// definite reports whether the server has answered that it did not perform the write. A 5xx does
// not say that: the write may have reached the store.
func definite(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err)
}

// howLost returns why nothing is known about a write.
func howLost(err error) string {
	var slow *slowRequest
	if errors.As(err, &slow) {
		return slow.Error()
	}
	return "the answer was lost"
}
