package compat

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// cutOff lets nothing through in either direction until the returned function
// is called, and breaks no connection: so does a network that loses packets.
// What reached the API server before is carried out, unheard.
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

// connect waits until there is a way. A request that its sender gives up
// meanwhile is lost.
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

// called notes a request that got through.
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

// callsOf returns how often these got through, in all.
func (g *gate) callsOf(whats ...string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, what := range whats {
		n += g.calls[what]
	}
	return n
}

// since returns when the writes were sent on that were done after t, in order.
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
