package lookout

import (
	"context"
	"slices"
	"time"

	"everynode/internal/plan"
	"everynode/internal/why"
)

// told is what events have told of a row.
type told struct {
	of  key
	row why.Row
}

// key is what a row must still be, without the answer, for the answer to be about it.
type key struct{ pod, reason, detail string }

func keyOf(r *why.Row) key { return key{r.Pod, r.Reason, r.Detail} }

// heard is the row with what events have told of it, if they have.
func (l *Lookout) heard(r *why.Row) *why.Row {
	if a, ok := l.heardOf[r.Node]; ok && a.of == keyOf(r) {
		return &a.row
	}
	return r
}

// How often events are read while there is something that they may explain: new questions wait a little, so
// that those of one trouble are asked together, and old ones are asked again, as an event may come late.
const (
	askEvery   = 5 * time.Second
	askAgain   = 30 * time.Second
	maxBinding = 10 // rows for each of which pods of other DaemonSets are read
)

// asker has questions about rows that events may answer.
type asker interface {
	Ask(ctx context.Context) error
	asksMore() bool  // there is a question without an answer, or none any more
	questions() bool // there are some
}

// answer asks for what events tell of the rows that the last picture had questions about, until ctx ends.
func answer(ctx context.Context, asked chan struct{}, a asker) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		// Who may not read events sees the rest all the same.
		_ = a.Ask(ctx)
		for end := time.Now().Add(askAgain); ctx.Err() == nil && time.Now().Before(end); {
			if rest(ctx, askEvery); a.asksMore() {
				break
			}
		}
		if a.questions() {
			poke(asked)
		}
	}
}

func (l *Lookout) questions() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked) > 0
}

// asksMore says whether there is a question without an answer, or none any more.
func (l *Lookout) asksMore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked) == 0 || slices.ContainsFunc(l.asked, func(r why.Row) bool {
		a, known := l.heardOf[r.Node]
		return !known || a.of != keyOf(&r)
	})
}

// Ask asks for what events tell of the rows that the last picture had questions about. The next one shows it.
func (l *Lookout) Ask(ctx context.Context) error {
	l.mu.Lock()
	scene := l.scene
	rows := slices.Clone(l.asked)
	l.mu.Unlock()
	binding := 0
	rows = slices.DeleteFunc(rows, func(r why.Row) bool {
		if r.Reason != plan.WaitingForScheduler.String() {
			return false
		}
		binding++
		return binding > maxBinding
	})
	if len(rows) == 0 {
		return nil
	}
	keys := make([]key, len(rows))
	for i := range rows {
		keys[i] = keyOf(&rows[i])
	}
	if err := scene.Explain(ctx, l.client, rows, time.Now()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		l.heardOf[rows[i].Node] = told{keys[i], rows[i]}
	}
	poke(l.changed)
	return nil
}
