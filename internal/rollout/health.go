package rollout

import "time"

// Health is how an API server has answered of late. The zero value knows of no request.
type Health struct {
	parts [healthParts]healthPart
	until time.Time // it is unwell
}

// healthPart is the requests that ended within healthPartOf from from on.
type healthPart struct {
	from              time.Time
	all, failed, slow int
}

// When an API server is unwell. These are not for people to set: to be held back when nothing is wrong costs time, no more.
const (
	healthParts  = 6
	healthPartOf = 10 * time.Second
	healthSpan   = healthParts * healthPartOf // what counts, and how long it must be well before it is taken for well again
	// Of fewer requests nothing is concluded.
	healthLeast = 20
	// More than one in maxFailedIn has failed, or more than one in maxSlowIn, which is the 90th percentile, took longer
	// than slowAnswer.
	maxFailedIn = 20
	maxSlowIn   = 10
	slowAnswer  = 2 * time.Second
)

// Answered is the health after one more request.
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

// bad says that too many requests of the last minute have failed, or took too long.
func (h *Health) bad(now time.Time) bool {
	var sum healthPart
	for _, p := range h.parts {
		if age := now.Sub(p.from); age >= 0 && age < healthSpan {
			sum.all, sum.failed, sum.slow = sum.all+p.all, sum.failed+p.failed, sum.slow+p.slow
		}
	}
	return sum.all >= healthLeast && (maxFailedIn*sum.failed > sum.all || maxSlowIn*sum.slow > sum.all)
}

// Unwell says that within a minute too many requests of a minute had failed, or taken too long.
func (h *Health) Unwell(now time.Time) bool {
	left := h.until.Sub(now)
	return left > 0 && left <= healthSpan // else the clock has gone back
}
