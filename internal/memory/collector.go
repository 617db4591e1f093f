package memory

// How much garbage may pile up in a process that has to be small at rest. The control plane of a cluster
// on a laptop does little. When it works, each collection costs processor time for which answers wait: if
// the heap may grow only by half, creating and deleting pods costs nearly twice as much as if it may grow
// fourfold. What counts is how much is allocated, for whatever reason: mostly for writes, but also for
// lists of thousands of nodes and for their heartbeats.

import (
	"context"
	"io/fs"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// restPercent lets the heap grow by half between two collections. Compared with Go's default, which
	// lets it double, that saves a tenth of the process's memory.
	restPercent = 50
	// busyPercent lets it grow fourfold. A higher value gains little: collections are then 7 % of the
	// work.
	busyPercent = 300
	// busyRate is how many bytes a second must be allocated before collections cost more than a few per
	// cent of a processor. About forty writes allocate that much.
	busyRate = 20e6
	// restAfter is how long allocation must stay below that before the process gives its memory back.
	restAfter = 30 * time.Second
	lookEvery = time.Second
	// startFor is how long the start may take. More garbage would not make it quicker, and would stay
	// after it.
	startFor = 10 * time.Second
	// step is the smallest change that is made, in per cent.
	step = 10
	// roomShare is the share of the available memory that garbage may take: one part in this many.
	roomShare = 4
)

// heap is what the Go runtime reports about its memory, in bytes.
type heap struct {
	allocated uint64 // since the process began
	live      uint64 // found by the last collection
	objects   uint64 // live and garbage
}

// pace decides how much the heap may grow. It depends only on what its caller passes.
type pace struct {
	began     time.Time // of the first look
	at        time.Time // of the last one
	allocated uint64
	busyUntil time.Time
}

// next returns how much the heap may grow between two collections, in per cent of what is live. available
// returns how much memory there is besides the process's own, in bytes; next calls it only when that
// matters.
func (p *pace) next(now time.Time, h heap, available func() int64) (percent int) {
	if p.began.IsZero() {
		p.began, p.at = now, now
	}
	elapsed := now.Sub(p.at)
	if now.Sub(p.began) > startFor && float64(h.allocated-p.allocated) >= busyRate*elapsed.Seconds() {
		p.busyUntil = now.Add(restAfter)
	}
	p.at, p.allocated = now, h.allocated
	if !now.Before(p.busyUntil) || h.live == 0 {
		return restPercent
	}
	garbage := h.objects - min(h.live, h.objects)
	room := (uint64(available()) + garbage) / roomShare
	return int(min(max(100*room/h.live/step*step, restPercent), busyPercent))
}

// collector is the part of the Go runtime that is controlled here.
type collector struct {
	read      func() heap
	available func() int64
	set       func(percent int)
	release   func() // collects, and gives back what is free
}

// run controls the collector until ctx ends. The heap may grow by restPercent when run begins.
func (c collector) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var p pace
	percent := restPercent
	for {
		next := p.next(time.Now(), c.read(), c.available)
		if next != percent {
			c.set(next)
		}
		if next == restPercent && percent != restPercent {
			c.release()
		}
		percent = next
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Adapt controls the garbage collector of this process until ctx ends or undo is called, unless gogc, the
// value of GOGC, is set. At rest the heap may grow by half between two collections, and while much is
// allocated up to fourfold, as far as there is memory. root is the root of the file system.
func Adapt(ctx context.Context, root fs.FS, gogc string) (undo func()) {
	if gogc != "" {
		return func() {}
	}
	old := debug.SetGCPercent(restPercent)
	ctx, cancel := context.WithCancel(ctx)
	c := collector{
		read: readHeap, available: func() int64 { return Available(root) },
		set: func(percent int) { debug.SetGCPercent(percent) }, release: debug.FreeOSMemory,
	}
	var steering sync.WaitGroup
	steering.Go(func() { c.run(ctx) })
	return func() {
		cancel()
		steering.Wait()
		debug.SetGCPercent(old)
	}
}

func readHeap() heap {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return heap{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(), objects: samples[2].Value.Uint64()}
}
