package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/rollout"
)

// health is how the API server has answered our own requests. No tenant's webhook can spoil it: requests that admission
// refuses or does not answer, and those that may be slow because of it, are left out. A flood that the server does not
// throttle can spoil it: then releases wait, as intended.
type health struct {
	mu   sync.Mutex
	seen rollout.Health
}

// unwell reports whether no wave may begin.
func (h *health) unwell(now time.Time) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen.Unwell(now)
}

// read takes the outcome of a request that changes nothing, which no webhook sees.
func (h *health) read(ctx context.Context, err error, began time.Time) {
	if ctx.Err() == nil {
		h.note(faultOf(err) == faultServer, began)
	}
}

// write takes the outcome of a request that changes something.
func (h *health) write(ctx context.Context, err error, began time.Time) {
	fault := faultOf(err)
	if ctx.Err() != nil || errors.Is(err, errLapsed) || fault != faultNone && byNamespace(err) || fault == faultServer && apierrors.IsTimeout(err) || time.Since(began) > promptWrite {
		return
	}
	h.note(fault == faultServer, began)
}

// promptWrite is the longest time a write may take and still count for the server: anything slower may be due to a
// webhook.
const promptWrite = 2 * time.Second

func (h *health) note(failed bool, began time.Time) {
	if h == nil {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = h.seen.Answered(failed, now.Sub(began), now)
}

// fault is who caused a failure.
type fault uint8

const (
	faultNone fault = iota // the request succeeded, or was wrong
	faultAdmission
	faultServer
)

// faultOf classifies an error: 5xx, 429, and no answer at all are the server's.
func faultOf(err error) fault {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return faultNone
	case byAdmission(err):
		return faultAdmission
	case !errors.As(err, &status):
		return faultServer
	case status.Status().Code >= 500, apierrors.IsTooManyRequests(err):
		return faultServer
	}
	return faultNone
}
