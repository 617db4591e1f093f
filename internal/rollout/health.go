package rollout

import "time"

// Health records how an API server has answered recently. The zero value knows no request.
type Health struct {
	parts [healthParts]healthPart
	until time.Time // it is unwell
}

// healthPart counts the requests that ended within healthPartOf after from.
type healthPart struct {
	from              time.Time
	all, failed, slow int
}

// When an API server is unwell. People cannot set these: a false alarm only costs time.
const (
	healthParts  = 6
	healthPartOf = 10 * time.Second
	healthSpan   = healthParts * healthPartOf // the period that counts, and how long the server must be well before it counts as well again
	// Fewer requests prove nothing.
	healthLeast = 20
	// More than one in maxFailedIn has failed, or more than one in maxSlowIn, which is the 90th percentile, took longer
	// than slowAnswer.
	maxFailedIn = 20
	maxSlowIn   = 10
	slowAnswer  = 2 * time.Second
)

// Answered returns the health after one more request.
func (h Health) Answered(failed bool, took time.Duration, now time.Time) Health {
	from := now.Truncate(healthPartOf)
	p := &h.parts[uint64(from.Unix()/int64(healthPartOf/time.Second))%healthParts]
	if !p.from.Equal(from) {
		*p = healthPart{from: from}
	}
	p.all++
	if failed {
		p.failed++
	}
	if took > slowAnswer {
		p.slow++
	}
	if h.bad(now) {
		h.until = now.Add(healthSpan)
	}
	return h
}

// bad reports whether too many requests of the last minute failed or took too long.
func (h *Health) bad(now time.Time) bool {
	var sum healthPart
	for _, p := range h.parts {
		if age := now.Sub(p.from); age >= 0 && age < healthSpan {
			sum.all, sum.failed, sum.slow = sum.all+p.all, sum.failed+p.failed, sum.slow+p.slow
		}
	}
	return sum.all >= healthLeast && (maxFailedIn*sum.failed > sum.all || maxSlowIn*sum.slow > sum.all)
}

// Unwell reports whether, at some time in the last minute, too many requests of a minute had failed or taken too long.
func (h *Health) Unwell(now time.Time) bool {
	left := h.until.Sub(now)
	return left > 0 && left <= healthSpan // else the clock has gone back
}
