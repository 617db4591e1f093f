package ui

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"everynode/internal/fleetview"
)

// Recording is a fleet as it was once. It is a Source: each time that somebody begins to look it is played from the start. Its
// last state stays.
type Recording struct {
	entries []entry
	how     Playing
	paths   map[string]bool // for which there is an answer

	mu       sync.Mutex
	position int64 // time of the state that was shown last, as entry.At
}

// Playing says how to play a recording: how many times as fast as it was recorded, and from which time on.
type Playing struct {
	Speed float64
	From  time.Duration
}

// maxLine is the maximum length of a line of a recording: a State of a very large fleet.
const maxLine = 256 << 20

// Read reads a recording, which may be compressed with gzip. An incomplete last line is left out.
func Read(r io.Reader, how Playing) (*Recording, error) {
	r, err := unpacked(r)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var h heading
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &h) != nil || h.Recording != recordingName {
		return nil, errors.Join(errors.New("it is not a recording made by `everynode ui --record`"), lines.Err())
	}
	if h.Version != fleetview.Version {
		return nil, fmt.Errorf("it is a recording of version %d, but this program plays version %d: play it with the version of everynode that made it", h.Version, fleetview.Version)
	}
	rec := &Recording{how: how}
	var broken error
	for n := 2; lines.Scan(); n++ {
		if broken != nil {
			return nil, broken
		}
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			broken = fmt.Errorf("line %d of the recording: %w", n, err)
			continue
		}
		if e.Change != nil && len(rec.entries) == 0 {
			return nil, fmt.Errorf("line %d of the recording changes something that no earlier line contains", n)
		}
		rec.entries = append(rec.entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	if len(rec.entries) == 0 || rec.entries[0].State == nil {
		return nil, errors.New("the recording is empty: it ended before anything was seen")
	}
	rec.offer()
	return rec, nil
}

// offer marks findings as having a log only if the log was recorded.
func (r *Recording) offer() {
	r.paths = map[string]bool{}
	for i := range r.entries {
		r.paths[r.entries[i].Path] = true
	}
	offer := func(set string, all []fleetview.Finding) {
		for i := range all {
			all[i].Log = all[i].Log && r.paths[logPath(set, all[i].Node)]
		}
	}
	for i := range r.entries {
		if s := r.entries[i].State; s != nil {
			for _, set := range s.Sets {
				offer(set.Key(), set.Findings)
			}
		}
		if c := r.entries[i].Change; c != nil {
			for key, set := range c.Sets {
				offer(key, set.Found)
			}
		}
	}
}

// unpacked returns the decompressed content if it is compressed with gzip, and otherwise the content as it is.
func unpacked(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if magic, err := buffered.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return buffered, nil // a file without two bytes is not a recording: the caller reports that when it reads it
	}
	packed, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("unpack the recording: %w", err)
	}
	return packed, nil
}

// Follow plays the recording.
func (r *Recording) Follow(ctx context.Context, show func(*fleetview.State), _ func(string)) error {
	began := time.Now()
	var state *fleetview.State
	for i := range r.entries {
		e := &r.entries[i]
		since := time.Duration(e.At-r.entries[0].At)*time.Millisecond - r.how.From
		due := began.Add(time.Duration(float64(since) / r.how.Speed))
		if since > 0 {
			wait(ctx, time.Until(due))
		}
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case e.State != nil:
			state = e.State
		case e.Change != nil:
			state = state.Apply(e.Change)
		}
		r.mu.Lock()
		r.position = e.At
		r.mu.Unlock()
		if (e.State != nil || e.Change != nil) && !r.passed(i) {
			show(state)
		}
	}
	<-ctx.Done()
	return nil
}

// passed reports whether a later state also comes before the start of the playing, so that this one need not be shown.
func (r *Recording) passed(i int) bool {
	for _, e := range r.entries[i+1:] {
		if time.Duration(e.At-r.entries[0].At)*time.Millisecond > r.how.From {
			return false
		}
		if e.State != nil || e.Change != nil {
			return true
		}
	}
	return false
}

// Node returns the last answer before the time that is shown, or the first one if that is later.
func (r *Recording) Node(_ context.Context, name string) (*fleetview.NodeDetail, error) {
	d, err := answered[fleetview.NodeDetail](r, nodePath(name))
	if err != nil {
		return nil, err
	}
	for i := range d.Rows {
		d.Rows[i].Log = d.Rows[i].Log && r.paths[logPath(d.Rows[i].Set, name)]
	}
	return d, nil
}

// Events returns the recorded events, chosen as in Node; none for a DaemonSet that never had a finding.
func (r *Recording) Events(_ context.Context, namespace, name string) (*fleetview.Events, error) {
	all, err := answered[fleetview.Events](r, eventsPath(namespace+"/"+name))
	if errors.Is(err, fleetview.ErrUnknown) {
		return &fleetview.Events{Events: []fleetview.Event{}}, nil
	}
	return all, err
}

// Log returns a recorded log, chosen as in Node.
func (r *Recording) Log(_ context.Context, namespace, name, node string) (*fleetview.Log, error) {
	return answered[fleetview.Log](r, logPath(namespace+"/"+name, node))
}

// errNotRecorded is the error for a request that nobody made during the recording, or that was not answered.
type errNotRecorded struct{}

func (errNotRecorded) Error() string { return "it was not recorded" }

// Is makes it an ErrUnknown for errors.Is.
func (errNotRecorded) Is(err error) bool { return err == fleetview.ErrUnknown }

func answered[T any](r *Recording, path string) (*T, error) {
	r.mu.Lock()
	position := r.position
	r.mu.Unlock()
	var text json.RawMessage
	for i := range r.entries {
		if e := &r.entries[i]; e.Path == path && (text == nil || e.At <= position) {
			text = e.Answer
		}
	}
	if text == nil {
		return nil, errNotRecorded{}
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("read what was recorded: %w", err)
	}
	return v, nil
}
