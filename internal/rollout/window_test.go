package rollout

import (
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestWindow(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	office := Window{Days: []time.Weekday{time.Monday, time.Thursday}, From: 9 * 60, To: 16 * 60, Zone: berlin}
	night := Window{Days: []time.Weekday{time.Friday}, From: 22 * 60, To: 4 * 60, Zone: berlin}
	twice := Window{From: 2 * 60, To: 2*60 + 30, Zone: berlin}
	for _, c := range []struct {
		name    string
		windows []Window
		at      string
		open    bool
		turns   string
	}{
		{"none", nil, "2026-11-26T12:00:00Z", true, ""},
		{"before it opens", []Window{office}, "2026-11-26T07:59:00Z", false, "2026-11-26T08:00:00Z"},
		{"open", []Window{office}, "2026-11-26T14:59:59Z", true, "2026-11-26T15:00:00Z"},
		{"closed over the weekend", []Window{office}, "2026-11-26T15:00:00Z", false, "2026-11-30T08:00:00Z"},
		{"in summer an hour earlier", []Window{office}, "2026-07-02T07:00:00Z", true, "2026-07-02T14:00:00Z"},
		{"over midnight", []Window{night}, "2026-11-28T02:59:00Z", true, "2026-11-28T03:00:00Z"},
		{"the night after another day", []Window{night}, "2026-11-27T01:00:00Z", false, "2026-11-27T21:00:00Z"},
		{"a whole day, every day", []Window{{From: 0, To: day, Zone: time.UTC}}, "2026-11-26T12:00:00Z", true, ""},
		{"an hour that comes twice, at first", []Window{twice}, "2026-10-25T00:10:00Z", true, "2026-10-25T00:30:00Z"},
		{"between", []Window{twice}, "2026-10-25T00:40:00Z", false, "2026-10-25T01:00:00Z"},
		{"once more", []Window{twice}, "2026-10-25T01:10:00Z", true, "2026-10-25T01:30:00Z"},
		{"an hour that is left out", []Window{twice}, "2026-03-29T00:00:00Z", false, "2026-03-30T00:00:00Z"},
		{"an hour a week that is left out", []Window{{Days: []time.Weekday{time.Sunday}, From: 2 * 60, To: 3 * 60, Zone: berlin}}, "2026-03-22T02:00:00Z", false, "2026-04-05T00:00:00Z"},
		{"two that touch are one", []Window{{From: 0, To: 60, Zone: time.UTC}, {From: 60, To: 120, Zone: time.UTC}}, "2026-11-26T00:30:00Z", true, "2026-11-26T02:00:00Z"},
	} {
		p := Policy{Windows: c.windows}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		turns := ""
		if next := p.Turns(at); !next.IsZero() {
			turns = next.UTC().Format(time.RFC3339)
		}
		if open := p.Open(at); open != c.open || turns != c.turns {
			t.Errorf("%s: open %v until %q, want %v until %q", c.name, open, turns, c.open, c.turns)
		}
	}
}

// Turns says the minute that looking at each minute would find, also in weeks in which clocks are
// put forward or back.
func TestTurnsIsTheNextChange(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "America/New_York"), zone(t, "Australia/Lord_Howe"), zone(t, "Asia/Kathmandu")}
	rapid.Check(t, func(t *rapid.T) {
		var p Policy
		for range rapid.IntRange(1, 2).Draw(t, "windows") {
			w := Window{From: rapid.IntRange(0, day-1).Draw(t, "from"), To: rapid.IntRange(1, day).Draw(t, "to"), Zone: rapid.SampledFrom(zones).Draw(t, "zone")}
			for d := range time.Weekday(7) {
				if rapid.Bool().Draw(t, "on") {
					w.Days = append(w.Days, d)
				}
			}
			if w.From == w.To {
				w.To++
			}
			p.Windows = append(p.Windows, w)
		}
		begin := time.Date(2026, time.Month(rapid.SampledFrom([]int{3, 4, 10, 11, 7}).Draw(t, "month")), 1, 0, 0, 0, 0, time.UTC)
		at := begin.Add(time.Duration(rapid.IntRange(0, 31*day).Draw(t, "minute")) * time.Minute)
		got := p.Turns(at)
		want := at
		for p.Open(want) == p.Open(at) {
			if want = want.Add(time.Minute); want.Sub(at) > 7*24*time.Hour {
				want = time.Time{} // a week and no change
				break
			}
		}
		if !want.IsZero() && !got.Equal(want) {
			t.Fatalf("at %s open is %v, and changes at %s, not at %s", at, p.Open(at), want, got)
		}
		if want.IsZero() && !got.IsZero() && got.Sub(at) <= 7*24*time.Hour {
			t.Fatalf("at %s: changes at %s, where nothing changes", at, got)
		}
	})
}
