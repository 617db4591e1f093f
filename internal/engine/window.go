package engine

import (
	"time"

	"everynode/internal/delivery"
)

// shrinkPause is how long a window that shrank does not shrink again: the
// requests that were under way then tell nothing new.
const shrinkPause = 200 * time.Millisecond

// window bounds how many writes are under way. Each success widens it by one,
// so that it doubles in the time that one write takes; trouble halves it.
type window struct {
	size, busy int
	shrunk     time.Time
}

func newWindow() window { return window{size: delivery.FirstWindow} }

func (w *window) room() bool { return w.busy < w.size }

func (w *window) grow() { w.size = min(w.size+1, delivery.MaxWindow) }

func (w *window) shrink(now time.Time) {
	if now.Sub(w.shrunk) < shrinkPause {
		return
	}
	w.size, w.shrunk = max(w.size/2, 1), now
}

// A write that takes longer than slowAfter waits for something other than the
// API server's processors: a webhook that hangs, mostly. It makes room in the
// window for all, and counts against bounds of its own, for each namespace and
// in all. A DaemonSet whose writes are quick does not ask for those.
const (
	slowAfter     = 250 * time.Millisecond
	maxSlow       = 128
	maxSlowTenant = 64
)

// speed is how long the writes of a DaemonSet take, as far as that is known: as its
// last write tells, which has ended or turned slow.
type speed int

const (
	speedUnknown speed = iota
	speedQuick
	speedSlow
)

// unprovenShare is the part of the window for all that is left to DaemonSets of
// whose writes none has succeeded since the last that failed, while others fare
// well. Each has one write in it at a time: it may become a slow one.
const unprovenShare = 4
