package engine

import (
	"time"

	"everynode/internal/delivery"
)

// shrinkPause is how long a window that shrank does not shrink again: requests that were already
// under way prove nothing new.
const shrinkPause = 200 * time.Millisecond

// window limits how many writes are under way. Each success widens it by one, so that it doubles
// in the time that one write takes; trouble halves it.
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

// A write that takes longer than slowAfter waits for something other than the API server's
// processors, usually a webhook that hangs. It leaves the window for all, and counts against
// separate limits, for each namespace and in total. These limits do not apply to a DaemonSet
// whose writes are quick.
const (
	slowAfter     = 250 * time.Millisecond
	maxSlow       = 128
	maxSlowTenant = 64
)

// speed is how fast the writes of a DaemonSet are, as far as known: it is taken from the last
// write that has ended or turned slow.
type speed int

const (
	speedUnknown speed = iota
	speedQuick
	speedSlow
)

// unprovenShare is the part of the window for all that is left to DaemonSets without a success
// since their last failure, while others succeed. Each of them has one write in it at a time,
// because that write may become slow.
const unprovenShare = 4
