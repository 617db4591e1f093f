package rollout

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
)

// TestGuard is one story: what happens, one thing after the other, to a DaemonSet with pods on 100 nodes.
func TestGuard(t *testing.T) {
	p, now := Default(), time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	var g Guard
	in := Removals{Running: 100}
	for _, step := range []struct {
		what    string
		passes  time.Duration
		pending int // nodes
		early   int // of these wait for their turn
		allowed int // nodes, for an hour from now on; 0: as before
		lets    bool
		wakes   time.Duration
		held    int
	}{
		{what: "nothing"},
		{what: "a node loses its label", pending: 1, wakes: 10 * time.Second},
		{what: "another does", passes: 9 * time.Second, pending: 2, wakes: 10 * time.Second},
		{what: "no more do for a while", passes: 10 * time.Second, pending: 2, lets: true},
		{what: "nine more are too many in an hour", passes: time.Minute, pending: 9, held: 9},
		{what: "most are put back, and the rest still waits", passes: time.Minute, pending: 1, held: 1},
		{what: "also when the hour is over", passes: 2 * time.Hour, pending: 1, held: 1},
		{what: "all are put back", pending: 0},
		{what: "ten may go in the next hour", pending: 10, wakes: 10 * time.Second},
		{what: "and do", passes: 10 * time.Second, pending: 10, lets: true},
		{what: "not one more, an hour after the first ten", passes: time.Hour, pending: 1, held: 1},
		{what: "a person allows two", pending: 1, allowed: 2, wakes: 10 * time.Second, held: 1},
		{what: "after a moment", passes: 10 * time.Second, pending: 1, lets: true},
		{what: "which is not for every edit that follows", pending: 2, held: 2},
		{what: "one more is, after a moment", pending: 1, wakes: 10 * time.Second, held: 1},
		{what: "and goes", passes: 10 * time.Second, pending: 1, lets: true},
		{what: "then it is used up", pending: 1, held: 1},
		{what: "another twenty", passes: time.Minute, pending: 1, allowed: 20, lets: true},
		{what: "an edit that goes node by node waits for its last one", pending: 15, wakes: 10 * time.Second},
		{what: "as it may go too far", passes: 9 * time.Second, pending: 30, held: 30},
		{what: "all are put back again", passes: time.Minute, pending: 0},
		{what: "it has an end", passes: time.Hour, pending: 11, held: 11},
		{what: "they are put back as well", passes: 2 * time.Hour, pending: 0},
		{what: "a release drops ten nodes, each in its turn", pending: 10, early: 10, wakes: 10 * time.Second},
		{what: "it is the turn of none", passes: 30 * time.Minute, pending: 10, early: 10},
		{what: "then of two", passes: time.Minute, pending: 10, early: 8, lets: true},
		{what: "then of one", passes: 20 * time.Minute, pending: 8, early: 7, lets: true},
		{what: "an edit beside it goes too far, and the rest waits, too", passes: time.Minute, pending: 8, early: 7, held: 8},
		{what: "a person allows eight", passes: time.Minute, pending: 8, early: 7, allowed: 8, lets: true},
		{what: "the permission is for the rest, too", passes: 59 * time.Minute, pending: 7, early: 3, lets: true},
		{what: "until it ends; then the share is what counts", passes: 10 * time.Minute, pending: 3, early: 2, lets: true},
	} {
		now = now.Add(step.passes)
		if step.pending > in.Pending {
			in.Grew = now
		}
		in.Pending, in.Due = step.pending, step.pending-step.early
		if step.allowed > 0 {
			in.Allowed = Allowance{Nodes: step.allowed, Before: now.Add(time.Hour)}
		}
		next, lets, wake := p.Guard(g, &in, now)
		var wakes time.Duration
		if !wake.IsZero() {
			wakes = wake.Sub(now)
		}
		if lets != step.lets || wakes != step.wakes || next.Held != step.held {
			t.Fatalf("%s: lets %v, wakes after %s, held %d; want %+v", step.what, lets, wakes, next.Held, step)
		}
		if g = next; lets {
			in.Pending -= in.Due
		}
	}
}

func TestGuardShare(t *testing.T) {
	for _, c := range []struct {
		removals plan.Amount
		running  int
		most     int
	}{
		{plan.Amount{Value: 10, Percent: true}, 1000, 100},
		{plan.Amount{Value: 10, Percent: true}, 19, 1},
		{plan.Amount{Value: 10, Percent: true}, 3, 1},
		{plan.Amount{Value: 0, Percent: true}, 1000, 0},
		{plan.Amount{Value: 100, Percent: true}, 7, 7},
		{plan.Amount{Value: 5}, 3, 5},
		{plan.Amount{}, 3, 0},
	} {
		p := Policy{Removals: c.removals}
		if n := p.MayRemove(c.running); n != c.most {
			t.Errorf("%+v of %d are %d, want %d", c.removals, c.running, n, c.most)
		}
	}
}

// R10: in any hour no more go than the policy allows, whatever comes when, and whoever keeps the state in between.
func TestGuardNeverLetsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Removals: plan.Amount{Value: rapid.IntRange(0, 12).Draw(t, "removals")}}
		now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
		var g Guard
		in := Removals{Running: 100}
		type let struct {
			at time.Time
			n  int
		}
		var gone []let
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 9, 10, 11, 300, 599, 600, 3000, 3600, 4200}).Draw(t, "seconds")) * time.Second)
			if n := rapid.IntRange(0, 8).Draw(t, "pending"); n != in.Pending {
				if n > in.Pending {
					in.Grew = now
				}
				in.Pending = n
			}
			in.Due = rapid.IntRange(0, in.Pending).Draw(t, "due")
			kept := g
			next, lets, wake := p.Guard(g, &in, now)
			if again, _, _ := p.Guard(kept, &in, now); lets && again.Held != next.Held {
				t.Fatal("the guard of before was changed")
			}
			if !lets && next.Held == kept.Held && !reflect.DeepEqual(next, kept) {
				t.Fatalf("without a change of what is held %+v is to be kept in place of %+v", next, kept)
			}
			if g = next; !lets {
				if in.Due > 0 && g.Held != in.Pending && !wake.After(now) {
					t.Fatalf("%d are pending, %d held, and nobody looks again", in.Pending, g.Held)
				}
				continue
			}
			gone = append(gone, let{now, in.Due})
			in.Pending -= in.Due
			n := 0
			for _, l := range gone {
				if l.at.After(now.Add(-time.Hour)) {
					n += l.n
				}
			}
			if n > p.Removals.Value {
				t.Fatalf("%d have gone within an hour, %d may", n, p.Removals.Value)
			}
			if len(g.Taken) > 8 {
				t.Fatalf("%d spans are kept", len(g.Taken))
			}
		}
	})
}
