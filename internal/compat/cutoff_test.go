package compat

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// cutOff lets nothing through in either direction until the returned function
// is called, but breaks no connection, like a network that loses packets.
// Requests that reached the API server before are carried out, but not
// answered.
func (g *gate) cutOff() (heal func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	until := make(chan struct{})
	g.cut = until
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cut = nil
		close(until)
	})
}

// connect waits while the gate is cut off. If the sender gives up meanwhile,
// the request is lost.
func (g *gate) connect(req *http.Request) {
	g.mu.Lock()
	until := g.cut
	g.mu.Unlock()
	if until == nil {
		return
	}
	select {
	case <-until:
		if req.Context().Err() == nil {
			return
		}
	case <-g.shutC:
	case <-req.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

// called records a request that got through.
func (g *gate) called(what string, req *http.Request) {
	parts := strings.Split(req.URL.Path, "/")
	if parts[1] == "apis" {
		parts = parts[:min(len(parts), 4)]
	} else {
		parts = parts[:min(len(parts), 3)]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[what]++
	g.apis[strings.Join(parts, "/")] = true
}

// callsOf returns how often requests of these kinds got through, in total.
func (g *gate) callsOf(whats ...string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, what := range whats {
		n += g.calls[what]
	}
	return n
}

// since returns the times at which the writes that succeeded after t were
// forwarded, in order.
func (g *gate) since(t time.Time) (at []time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, sent := range g.made {
		if sent.After(t) {
			at = append(at, sent)
		}
	}
	return at
}
