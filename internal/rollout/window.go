package rollout

import (
	"slices"
	"time"
)

// Window is a time of the week, by local time in Zone.
type Window struct {
	// Days are those on which it opens. None: all.
	Days []time.Weekday
	// From and To are minutes since midnight, 0 to 1440. With To before From it closes on the next day.
	From, To int
	Zone     *time.Location
}

const day = 24 * 60 // minutes

func (w *Window) check(say func(string, ...any), field string) {
	if w.From < 0 || w.From >= day || w.To <= 0 || w.To > day || w.From == w.To {
		say("%s: from %s to %s is never open; a whole day is from 00:00 to 24:00", field, clock(w.From), clock(w.To))
	}
	if w.Zone == nil {
		say("%s.timeZone: it is missing", field)
	}
}

func clock(minutes int) string {
	return string([]byte{'0' + byte(minutes/600%10), '0' + byte(minutes/60%10), ':', '0' + byte(minutes%60/10), '0' + byte(minutes%10)})
}

func (w *Window) on(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }

func (w *Window) open(at time.Time) bool {
	local := at.In(w.Zone)
	now, today := local.Hour()*60+local.Minute(), local.Weekday()
	if w.From < w.To {
		return w.on(today) && w.From <= now && now < w.To
	}
	return w.on(today) && w.From <= now || w.on((today+6)%7) && now < w.To
}

// Open reports whether nodes may be granted the target at that time.
func (p *Policy) Open(at time.Time) bool {
	return len(p.Windows) == 0 || slices.ContainsFunc(p.Windows, func(w Window) bool { return w.open(at) })
}

// Turns returns the next time at which Open changes; zero if it never does.
func (p *Policy) Turns(at time.Time) time.Time {
	var edges []time.Time
	for i := range p.Windows {
		edges = p.Windows[i].edges(at, edges)
	}
	slices.SortFunc(edges, time.Time.Compare)
	for _, edge := range edges {
		if edge.After(at) && p.Open(edge) != p.Open(at) {
			return edge
		}
	}
	return time.Time{}
}

// edges adds the times when the window may open or close in the days around a time: at its minutes of
// local time, and where local time is shifted. A weekly one-hour window that such a shift skips opens
// again the week after.
func (w *Window) edges(at time.Time, all []time.Time) []time.Time {
	local := at.In(w.Zone)
	put, by := changeOfClock(local)
	for days := -1; days <= 15; days++ {
		for _, minutes := range []int{0, w.From, w.To} {
			edge := time.Date(local.Year(), local.Month(), local.Day()+days, 0, minutes, 0, 0, w.Zone)
			all = append(all, edge, edge.Add(by), edge.Add(-by))
		}
	}
	if !put.IsZero() {
		all = append(all, put)
	}
	return all
}

// changeOfClock returns when local time is next shifted, and by how much. In the week after a shift it
// may return that last one, which is just as good.
func changeOfClock(local time.Time) (put time.Time, by time.Duration) {
	begin, end := local.ZoneBounds()
	_, now := local.Zone()
	other := now
	switch {
	case !end.IsZero():
		_, other = end.Zone()
	case !begin.IsZero():
		_, other = begin.Add(-time.Second).Zone()
	}
	return end, time.Duration(other-now) * time.Second
}
