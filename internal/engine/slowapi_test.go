package engine

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// slowServer is one engine's connection to an API server that takes its time. If the
// client gives up a request without the server noticing, the server continues with it
// until the deadline that the request names, or its own of a minute.
type slowServer struct {
	c     *cluster
	takes func(r request) time.Duration
	// cut: nothing passes between engine and server.
	cut atomic.Bool
	// resets: the server notices when a client gives up a request.
	resets bool

	mu      sync.Mutex
	effects []time.Time // when the writes of this engine took effect
}

func (s *slowServer) use(cfg *Config) { cfg.Client = &rest.Config{Host: "http://fake", Transport: s} }

func (s *slowServer) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.cut.Load() {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if req.URL.Path == "/version" {
		return s.c.RoundTrip(req)
	}
	r, again, err := reread(req)
	if err != nil || r.verb == "watch" {
		return s.c.RoundTrip(again)
	}
	limit := time.Minute
	if d, err := time.ParseDuration(req.URL.Query().Get("timeout")); err == nil && d > 0 {
		limit = min(limit, d)
	}
	ctx := req.Context()
	if !s.resets {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	type answer struct {
		resp *http.Response
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		defer cancel()
		resp, err := s.serve(again.WithContext(ctx), r)
		answered <- answer{resp, err}
	}()
	select {
	case a := <-answered:
		if !s.cut.Load() {
			return a.resp, a.err
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func (s *slowServer) serve(req *http.Request, r request) (*http.Response, error) {
	if d := s.takes(r); d > 0 && !sleep(req.Context(), d) {
		return respondError(apierrors.NewTimeoutError("request did not complete within requested timeout", 0))
	}
	if r.verb != "get" && r.verb != "list" && r.resource != "leases" && r.resource != "events" {
		s.mu.Lock()
		s.effects = append(s.effects, time.Now())
		s.mu.Unlock()
	}
	return s.c.RoundTrip(req)
}

func (s *slowServer) last() (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.effects); n > 0 {
		at = s.effects[n-1]
	}
	return at
}

func (s *slowServer) first() (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.effects) > 0 {
		at = s.effects[0]
	}
	return at
}

// reread parses a request and returns an equal one.
func reread(req *http.Request) (request, *http.Request, error) {
	again := req.Clone(req.Context())
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return request{}, again, err
		}
		again.Body = io.NopCloser(bytes.NewReader(body))
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r, err := parse(req)
	return r, again, err
}

// writesTake returns how long all writes of an engine take, except for its lease and
// events.
func writesTake(d time.Duration) func(request) time.Duration {
	return func(r request) time.Duration {
		if r.verb == "get" || r.verb == "list" || r.resource == "leases" || r.resource == "events" {
			return 0
		}
		return d
	}
}

// roundTripper is a function that answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
