package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/rollout"
)

// health is how the API server has answered our own requests. No webhook of a tenant can spoil it: what admission refuses, or
// does not answer for, and what may be slow for that, is left out. A flood that the server lets through to us can: then
// releases wait, which is what they are to do.
type health struct {
	mu   sync.Mutex
	seen rollout.Health
}

// unwell says that no wave is to begin.
func (h *health) unwell(now time.Time) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen.Unwell(now)
}

// read takes the outcome of a request that changes nothing, and meets no webhook.
func (h *health) read(ctx context.Context, err error, began time.Time) {
	if ctx.Err() == nil {
		h.note(faultOf(err) == faultServer, began)
	}
}

// write takes that of one that changes something.
func (h *health) write(ctx context.Context, err error, began time.Time) {
	fault := faultOf(err)
	if ctx.Err() != nil || errors.Is(err, errLapsed) || fault == faultAdmission || fault == faultServer && apierrors.IsTimeout(err) || time.Since(began) > promptWrite {
		return
	}
	h.note(fault == faultServer, began)
}

// promptWrite is the longest that a write may take to say anything of the server: a webhook may be what takes longer.
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

// fault is whose a failure is.
type fault uint8

const (
	faultNone fault = iota // the request succeeded, or was wrong
	faultAdmission
	faultServer
)

// faultOf reads an error: 5xx, 429, and no answer at all are the server's.
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
