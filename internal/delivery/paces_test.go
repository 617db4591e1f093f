package delivery

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	p, last := Pace{First: 3 * time.Second, Longest: 10 * time.Second}, time.Duration(0)
	for _, want := range []time.Duration{3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second} {
		if last = p.Next(last); last != want {
			t.Fatalf("the pause is %s, want %s", last, want)
		}
	}
}

// TestDeadlines: a write that is sent at the last instant of a term has ended before another leader may start.
func TestDeadlines(t *testing.T) {
	for _, c := range []struct{ timeout, term time.Duration }{{PromptTimeout, LeaseTerm}, {SlowTimeout, SlowLeaseTerm}} {
		if end := RenewDeadline + c.timeout + Transit; end > c.term {
			t.Errorf("a write may take until %s of a lease of %s", end, c.term)
		}
	}
}
