package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"everynode/internal/fleetview"
)

// message is one event of a stream: its kind, and its value as JSON.
type message struct {
	kind  string // about, state, change, failure
	value any
}

// follower turns scenes into messages for one viewer. A slow viewer gets fewer messages, each with everything that has
// changed since the last.
type follower struct {
	last   scene
	failed string
}

// next returns the next message for the viewer; nil if nothing has changed.
func (f *follower) next(now scene) (m *message) {
	defer func() { f.last = now }()
	if now.error != f.failed {
		if f.failed = now.error; now.error != "" {
			return &message{"failure", fleetview.Answer{Error: now.error}}
		}
	}
	switch {
	case now.state == nil || now.state == f.last.state:
		return nil
	case f.last.state == nil || f.last.run != now.run:
		return &message{"state", now.state}
	}
	if change := fleetview.Between(f.last.state, now.state); change != nil {
		return &message{"change", change}
	}
	return nil
}

// stream sends server-sent events: about once, state once, then changes, until the viewer leaves.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	s.hub.join()
	defer s.hub.leave()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	send := func(text string) bool {
		if out.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return false
		}
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	about := &message{"about", fleetview.About{Version: fleetview.Version, Program: s.o.Program, Actions: s.o.Act != nil, Replay: s.o.Replay}}
	if text, err := about.event(); err != nil || !send(text) {
		return
	}
	if err := s.hub.each(r.Context(), func(m *message) error {
		if m == nil {
			m = &message{kind: "alive", value: struct{}{}}
		}
		text, err := m.event()
		if err == nil && !send(text) {
			err = errLeft
		}
		return err
	}); err != nil && err != errLeft {
		fmt.Fprintf(s.o.Errors, "warning: the stream of the page ended: %v\n", err)
	}
}

// errLeft means that a viewer has stopped reading.
var errLeft = fmt.Errorf("the viewer has left")

// event formats the message as a server-sent event.
func (m *message) event() (string, error) {
	text, err := json.Marshal(m.value)
	if err != nil {
		return "", fmt.Errorf("encode the data for the page: %w", err)
	}
	return "event: " + m.kind + "\ndata: " + string(text) + "\n\n", nil
}

// each calls tell with all messages until ctx ends, which is not an error, and with nil if there was none for a while.
func (h *hub) each(ctx context.Context, tell func(*message) error) error {
	var f follower
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		now, changed := h.now()
		m := f.next(now)
		if m != nil {
			if err := tell(m); err != nil {
				return err
			}
			continue // there may be another scene
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-alive.C:
			if err := tell(nil); err != nil {
				return err
			}
		}
	}
}
