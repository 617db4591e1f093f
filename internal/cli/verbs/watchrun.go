package verbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"everynode/internal/fleetmap"
	"everynode/internal/lookout"
)

// canvas is where pictures are drawn.
type canvas interface {
	draw(m *fleetmap.Model) error
	// resized gets a value when the last picture must be drawn again; quit is closed when the user ends the command.
	resized() <-chan struct{}
	quit() <-chan struct{}
	close() error
}

// watcher draws pictures until the update is through or the user ends it.
type watcher struct {
	lookout   *lookout.Lookout
	canvas    canvas
	untilDone bool
	giveUp    time.Duration
	set       string              // namespace and name of the DaemonSet
	command   string              // the command that shows more
	typed     func(string) string // returns a command as users type it
	progress  progressOf
}

// progressOf is how far an update is, and since when.
type progressOf struct {
	revision string
	there    int
	since    time.Time
}

// pace is the least time between two pictures. Drawing takes at most a quarter of the time.
const (
	pace      = 250 * time.Millisecond
	restShare = 3
)

// wordAfter is how long the first reading may take before that is shown.
const wordAfter = 3 * time.Second

// run draws until the update is through or the user ends it. It returns the last picture, or nil if none was drawn.
func (w *watcher) run(ctx context.Context) (last *lookout.Picture, err error) {
	following, end := context.WithCancel(ctx)
	defer end()
	go w.lookout.Follow(following)
	for {
		began := time.Now()
		p, err := w.lookout.See(began, true)
		if err != nil {
			return last, err
		}
		var wake time.Time
		if p == nil {
			if wake, err = w.unread(began); err != nil {
				return last, err
			}
		} else {
			last = p
			p.Model.Command = w.typed(p.Model.Command)
			if err := w.canvas.draw(&p.Model); err != nil {
				return last, err
			}
			if through, err := w.through(p, began); through || err != nil {
				return last, err
			}
			wake = w.wake(p)
		}
		took := time.Since(began)
		if !w.wait(ctx, max(pace, restShare*took), nil, time.Time{}) || !w.wait(ctx, 0, w.lookout.Changed(), wake) {
			return last, w.left(last)
		}
	}
}

// unread shows what was not read yet, once that takes a while. wake is when to do that, or when it is time to give up,
// which is an error.
func (w *watcher) unread(now time.Time) (wake time.Time, err error) {
	u := w.lookout.Unread()
	if u.Text == "" {
		return wake, nil // it was read just now
	}
	if word := u.Since.Add(wordAfter); now.Before(word) {
		wake = word
	} else if err := w.canvas.draw(&fleetmap.Model{Set: w.set, Unread: u.Text}); err != nil {
		return wake, err
	}
	if !w.untilDone || w.giveUp <= 0 {
		return wake, nil
	}
	end := u.Since.Add(w.giveUp)
	if !now.Before(end) {
		return wake, fmt.Errorf("nothing could be seen in %s (--give-up): not read %s", w.giveUp, u.Text)
	}
	if wake.IsZero() || end.Before(wake) {
		wake = end
	}
	return wake, nil
}

// wait waits until must has passed, or until there is something to draw: a change, a new size of the terminal, or the
// time wake. It returns false if the user ends the command.
func (w *watcher) wait(ctx context.Context, must time.Duration, changed <-chan struct{}, wake time.Time) bool {
	timer := time.NewTimer(must)
	resized := w.canvas.resized()
	switch {
	case must > 0:
		resized = nil
	case wake.IsZero():
		timer.Stop()
	default:
		timer.Reset(time.Until(wake))
	}
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.canvas.quit():
		return false
	case <-changed:
	case <-resized:
	case <-timer.C:
	}
	return true
}

// through reports whether there is nothing more to wait for. It is an error if the update has stopped.
func (w *watcher) through(p *lookout.Picture, now time.Time) (bool, error) {
	if r := &w.progress; r.revision != p.Revision || p.There > r.there || p.Model.Stale != "" || p.Model.Rollout != nil || r.since.IsZero() {
		*r = progressOf{p.Revision, p.There, now}
	}
	rollout := p.Model.Rollout
	switch {
	case !w.untilDone || p.Model.Stale != "":
		return false, nil
	case p.Done:
		return true, nil
	case p.Stopped != "":
		return false, fmt.Errorf("the update has stopped: %s", p.Stopped)
	case rollout != nil && rollout.Stopped:
		return false, fmt.Errorf("the update has stopped: %s (%s)", rollout.Phase, rollout.Reason)
	case rollout == nil && w.giveUp > 0 && now.Sub(w.progress.since) >= w.giveUp:
		return false, fmt.Errorf("no further node got there in %s (--give-up): %s says what keeps them", w.giveUp, w.command)
	}
	return false, nil
}

// wake is when the picture changes only because time passes, or when it is time to give up.
func (w *watcher) wake(p *lookout.Picture) time.Time {
	at := p.WakeAt
	if w.untilDone && w.giveUp > 0 && p.Model.Stale == "" && p.Model.Rollout == nil {
		if end := w.progress.since.Add(w.giveUp); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

// left returns the error for a user who does not wait for the end.
func (w *watcher) left(last *lookout.Picture) error {
	if last == nil {
		if u := w.lookout.Unread(); u.Failed { // what has said so on the screen is gone
			return fmt.Errorf("interrupted before anything was seen: not read %s", u.Text)
		}
	}
	switch {
	case !w.untilDone:
		return nil
	case last == nil:
		return errors.New("interrupted before anything was seen")
	}
	return errors.New("interrupted before the update was through")
}

// lines is a canvas for logs: it prints a line for a change, but not too often.
type lines struct {
	out   io.Writer
	said  string
	at    time.Time
	again chan struct{}
	later *time.Timer // until the next line; nil: none waits
}

func newLines(out io.Writer) *lines { return &lines{out: out, again: make(chan struct{}, 1)} }

// lineEvery is the least time between two lines.
const lineEvery = 5 * time.Second

func (l *lines) draw(m *fleetmap.Model) error {
	text, now := m.Summary(), time.Now()
	if text == l.said {
		return nil
	}
	if wait := lineEvery - now.Sub(l.at); wait > 0 {
		l.drawLater(wait)
		return nil
	}
	l.said, l.at = text, now
	_, err := fmt.Fprintln(l.out, now.Format(time.TimeOnly), text)
	return err
}

// drawLater asks for the last picture again after the wait, since nothing may change by then.
func (l *lines) drawLater(wait time.Duration) {
	if l.later != nil {
		l.later.Reset(wait)
		return
	}
	l.later = time.AfterFunc(wait, func() {
		select {
		case l.again <- struct{}{}:
		default:
		}
	})
}

func (l *lines) resized() <-chan struct{} { return l.again }
func (*lines) quit() <-chan struct{}      { return nil }

func (l *lines) close() error {
	if l.later != nil {
		l.later.Stop()
	}
	return nil
}
