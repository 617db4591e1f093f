package memory

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// steered is a runtime that allocates as a test says.
type steered struct {
	rate float64 // bytes a second, since from
	from time.Time
	done float64 // until then
	live uint64
	left int64 // free memory of the machine, in bytes
	asks int   // how often left was asked for
	says []string
}

func (s *steered) allocates(rate float64) {
	s.done = s.allocated()
	s.rate, s.from = rate, time.Now()
}

func (s *steered) allocated() float64 {
	if s.from.IsZero() {
		return 0
	}
	return s.done + s.rate*time.Since(s.from).Seconds()
}

func (s *steered) collector() collector {
	began := time.Now()
	note := func(format string, args ...any) {
		s.says = append(s.says, fmt.Sprintf("%s ", time.Since(began))+fmt.Sprintf(format, args...))
	}
	return collector{
		read:      func() heap { return heap{allocated: uint64(s.allocated()), live: s.live, objects: s.live} },
		available: func() int64 { s.asks++; return s.left },
		set:       func(percent int) { note("%d%%", percent) },
		release:   func() { note("gives memory back") },
	}
}

// wait lets d and a bit pass, so that the check at its end has happened.
func (s *steered) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func steer(t *testing.T, test func(s *steered)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &steered{live: 90e6, left: 8e9}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		c := s.collector()
		go func() {
			defer close(ended)
			c.run(ctx)
		}()
		s.wait(500 * time.Millisecond)
		test(s)
		cancel()
		<-ended
	})
}

func (s *steered) said(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.says, want) {
		t.Errorf("%q, want %q", s.says, want)
	}
}

func TestCollectorFollowsTheWork(t *testing.T) {
	steer(t, func(s *steered) {
		s.allocates(3e6)
		s.wait(time.Hour)
		s.said(t)
		if s.asks != 0 {
			t.Errorf("the machine's memory was read %d times at rest", s.asks)
		}
		s.allocates(100e6)
		s.wait(time.Minute)
		s.said(t, "1h0m1s 300%")
		s.allocates(3e6)
		s.wait(29 * time.Second)
		s.said(t, "1h0m1s 300%")
		s.wait(3 * time.Second)
		s.said(t, "1h0m1s 300%", "1h1m31s 50%", "1h1m31s gives memory back")
		s.wait(time.Hour)
		s.said(t, "1h0m1s 300%", "1h1m31s 50%", "1h1m31s gives memory back")
	})
}

// Work that returns again and again within half a minute counts as one stretch.
func TestCollectorDoesNotWaver(t *testing.T) {
	steer(t, func(s *steered) {
		s.wait(startFor)
		for range 20 {
			s.allocates(200e6)
			s.wait(2 * time.Second)
			s.allocates(0)
			s.wait(25 * time.Second)
		}
		s.said(t, "11s 300%")
	})
}

// What the start allocates does not count.
func TestCollectorLetsTheStartPass(t *testing.T) {
	steer(t, func(s *steered) {
		s.allocates(300e6)
		s.wait(8 * time.Second)
		s.allocates(0)
		s.wait(time.Minute)
		s.said(t)
	})
}

// Garbage takes at most a quarter of the available memory, but always as much as at
// rest.
func TestCollectorLeavesMemoryToOthers(t *testing.T) {
	steer(t, func(s *steered) {
		s.wait(startFor)
		s.left = 400e6
		s.allocates(100e6)
		s.wait(5 * time.Second)
		s.said(t, "11s 110%")
		s.left = 10e6
		s.wait(time.Second)
		s.said(t, "11s 110%", "16s 50%", "16s gives memory back")
		s.left = 800e6
		s.wait(time.Second)
		s.said(t, "11s 110%", "16s 50%", "16s gives memory back", "17s 220%")
		s.live = 900e6 // the cluster has grown
		s.wait(time.Second)
		if last := s.says[len(s.says)-2]; last != "18s 50%" {
			t.Errorf("%q: ten times as much is live, and a quarter of 800 MB is not half of it", s.says)
		}
	})
}

func TestPaceCountsWhatItHasTaken(t *testing.T) {
	now := time.Unix(1000, 0)
	p := pace{began: now.Add(-time.Hour), at: now.Add(-time.Second)}
	// There are 300 MB of garbage, for which the machine would have no memory at the
	// moment.
	got := p.next(now, heap{allocated: 1e9, live: 100e6, objects: 400e6}, func() int64 { return 100e6 })
	if got != 100 {
		t.Errorf("%d%%, want a quarter of 400 MB", got)
	}
}

// With GOGC set nothing is controlled. Without it, the former setting is restored in the
// end.
func TestAdapt(t *testing.T) {
	old := debug.SetGCPercent(123)
	t.Cleanup(func() { debug.SetGCPercent(old) })
	present := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	undo := Adapt(t.Context(), fstest.MapFS{}, "77")
	if p := present(); p != 123 {
		t.Errorf("GOGC is set, and the heap may grow by %d%%", p)
	}
	undo()
	undo = Adapt(t.Context(), fstest.MapFS{}, "")
	if p := present(); p != restPercent {
		t.Errorf("the heap may grow by %d%% at first", p)
	}
	undo()
	if p := present(); p != 123 {
		t.Errorf("the heap may grow by %d%% in the end, want what it was", p)
	}
}

// What readHeap reads is what the runtime does.
func TestReadHeap(t *testing.T) {
	runtime.GC()
	before := readHeap()
	kept := make([][]byte, 0, 64)
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	runtime.GC()
	after := readHeap()
	runtime.KeepAlive(kept)
	const all = 64 << 20
	if d := after.allocated - before.allocated; d < all || d > 2*all {
		t.Errorf("64 MiB were allocated, and %d bytes are counted", d)
	}
	if after.live < before.live+all/2 || after.objects < after.live/2 {
		t.Errorf("64 MiB are kept: %+v, before %+v", after, before)
	}
}
