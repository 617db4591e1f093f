package rollout

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What an API server is taken for, by what it has answered within a minute.
func TestHealth(t *testing.T) {
	type requests struct {
		n      int
		failed bool
		took   time.Duration
	}
	for _, c := range []struct {
		name   string
		said   []requests
		after  time.Duration
		unwell bool
	}{
		{"nothing is known", nil, 0, false},
		{"too few to tell", []requests{{19, true, time.Second}}, 0, false},
		{"all fail", []requests{{20, true, 0}}, 0, true},
		{"one in twenty fails", []requests{{95, false, 0}, {5, true, 0}}, 0, false},
		{"more than that", []requests{{94, false, 0}, {6, true, 0}}, 0, true},
		{"one in ten is slow", []requests{{90, false, 0}, {10, false, 3 * time.Second}}, 0, false},
		{"more than that", []requests{{89, false, 0}, {11, false, 3 * time.Second}}, 0, true},
		{"all take just as long as they may", []requests{{50, false, 2 * time.Second}}, 0, false},
		{"all failed not a minute ago", []requests{{20, true, 0}}, 59 * time.Second, true},
		{"all failed a minute ago", []requests{{20, true, 0}}, time.Minute, false},
		{"the clock went back", []requests{{20, true, 0}}, -time.Hour, false},
	} {
		var h Health
		now := epoch().Truncate(time.Minute)
		for _, r := range c.said {
			for range r.n {
				h = h.Answered(r.failed, r.took, now)
			}
		}
		if got := h.Unwell(now.Add(c.after)); got != c.unwell {
			t.Errorf("%s: unwell is %v", c.name, got)
		}
	}
}

// Whatever was, a minute without a request is enough to be taken for well, and one that answers all promptly is never taken for unwell.
func TestHealthForgets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h, good Health
		now := epoch()
		for range rapid.IntRange(0, 300).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "pause")) * time.Millisecond)
			h = h.Answered(rapid.Bool().Draw(t, "failed"), time.Duration(rapid.IntRange(0, 4).Draw(t, "seconds"))*time.Second, now)
			if good = good.Answered(false, slowAnswer, now); good.Unwell(now) {
				t.Fatal("unwell, and nothing was wrong")
			}
		}
		if h.Unwell(now.Add(time.Minute)) {
			t.Fatal("what was a minute ago counts")
		}
	})
}
