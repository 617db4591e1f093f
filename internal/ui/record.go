package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"everynode/internal/fleetview"
)

// A recording has one JSON object in each line: first a heading, then states, and the answers to questions about findings.

// heading describes the file.
type heading struct {
	Recording string `json:"recording"` // recordingName
	Version   int    `json:"version"`
}

const recordingName = "everynode fleet"

// entry is one line after the heading. It has exactly one of State, Change and Answer.
type entry struct {
	// At is the time of the entry, in milliseconds since the first one.
	At     int64             `json:"at"`
	State  *fleetview.State  `json:"state,omitempty"`
	Change *fleetview.Change `json:"change,omitempty"`
	// Path is the path of the request, Answer the answer to it.
	Path   string          `json:"path,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
}

// recorder writes what a viewer would get, and requests what somebody would request to see the details of a finding.
type recorder struct {
	s     *Server
	out   *json.Encoder
	began time.Time
	last  *fleetview.State
	asked map[question]bool
}

// question identifies a finding: it is asked about once, however many nodes it covers.
type question struct {
	set string
	id  int
}

// How many findings of a recording are asked about, and how long an answer may take: the recording of states waits for it.
const (
	maxAsked = 100
	askTime  = 5 * time.Second
)

// Record writes what a page would get about a fleet until ctx ends, without serving a page.
func Record(ctx context.Context, of Source, to io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	s := New(Options{Source: of, Record: to}, NewToken())
	var all sync.WaitGroup
	all.Go(func() { s.hub.run(ctx) })
	err := s.record(ctx)
	stop()
	all.Wait()
	return err
}

// record writes states until ctx ends.
func (s *Server) record(ctx context.Context) error {
	s.hub.join()
	defer s.hub.leave()
	r := &recorder{s: s, out: json.NewEncoder(s.o.Record), began: time.Now(), asked: map[question]bool{}}
	if err := r.out.Encode(heading{recordingName, fleetview.Version}); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return s.hub.each(ctx, func(m *message) error {
		if m == nil {
			return nil
		}
		if err := r.take(ctx, m); err != nil {
			return fmt.Errorf("write the recording: %w", err)
		}
		return nil
	})
}

func (r *recorder) take(ctx context.Context, m *message) error {
	e := entry{At: time.Since(r.began).Milliseconds()}
	switch v := m.value.(type) {
	case *fleetview.State:
		e.State, r.last = v, v
	case *fleetview.Change:
		e.Change, r.last = v, r.last.Apply(v)
	default:
		return nil // that there is nothing to see is not worth an entry
	}
	if err := r.out.Encode(e); err != nil {
		return err
	}
	return r.askAbout(ctx)
}

// askAbout requests the log and the node of new findings, and the events of their DaemonSet, so that a replay can show
// them.
func (r *recorder) askAbout(ctx context.Context) error {
	for _, set := range r.last.Sets {
		for i := range set.Findings {
			f := &set.Findings[i]
			q := question{set.Key(), f.ID}
			if r.asked[q] || len(r.asked) >= maxAsked {
				continue
			}
			r.asked[q] = true
			if err := r.about(ctx, set, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// about writes the answers. An answer that does not come in time is not recorded.
func (r *recorder) about(ctx context.Context, set *fleetview.Set, f *fleetview.Finding) error {
	source := r.s.o.Source
	if f.Log {
		err := r.ask(ctx, logPath(set.Key(), f.Node), func(ctx context.Context) (any, error) { return source.Log(ctx, set.Namespace, set.Name, f.Node) })
		if err != nil {
			return err
		}
	}
	err := r.ask(ctx, eventsPath(set.Key()), func(ctx context.Context) (any, error) { return source.Events(ctx, set.Namespace, set.Name) })
	if err != nil {
		return err
	}
	return r.ask(ctx, nodePath(f.Node), func(ctx context.Context) (any, error) { return source.Node(ctx, f.Node) })
}

func (r *recorder) ask(ctx context.Context, path string, answer func(context.Context) (any, error)) error {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	if value, err := answer(ctx); err == nil {
		return r.answered(path, value)
	}
	return nil
}

func (r *recorder) answered(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return r.out.Encode(entry{At: time.Since(r.began).Milliseconds(), Path: path, Answer: text})
}

func logPath(set, node string) string {
	return "/v1/log?" + url.Values{"set": {set}, "node": {node}}.Encode()
}

func nodePath(node string) string { return "/v1/node?" + url.Values{"name": {node}}.Encode() }

func eventsPath(set string) string { return "/v1/events?" + url.Values{"set": {set}}.Encode() }
