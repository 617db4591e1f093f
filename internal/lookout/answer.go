package lookout

import (
	"context"
	"slices"
	"time"

	"everynode/internal/plan"
	"everynode/internal/why"
)

// told is a row with what events add to it.
type told struct {
	of  key
	row why.Row
}

// key is what must not have changed in a row for the answer to be about it.
type key struct{ pod, reason, detail string }

func keyOf(r *why.Row) key { return key{r.Pod, r.Reason, r.Detail} }

// heard returns the row with what events added to it, if there is an answer.
func (l *Lookout) heard(r *why.Row) *why.Row {
	if a, ok := l.heardOf[r.Node]; ok && a.of == keyOf(r) {
		return &a.row
	}
	return r
}

// How often events are read while there is something that they may explain. New questions wait a little, so that
// questions with the same cause are asked together. Old questions are asked again, because an event may come late.
const (
	askEvery   = 5 * time.Second
	askAgain   = 30 * time.Second
	maxBinding = 10 // for each of these rows the pods of other DaemonSets are read
)

// asker is something with questions about rows that events may answer.
type asker interface {
	Ask(ctx context.Context) error
	asksMore() bool  // there is a question without an answer, or no question is left
	questions() bool // there are questions
}

// answer reads events about the rows that the last picture had questions about, until ctx ends.
func answer(ctx context.Context, asked chan struct{}, a asker) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		// A user who may not read events sees everything else.
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

// asksMore reports whether there is a question without an answer, or no question is left.
func (l *Lookout) asksMore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked) == 0 || slices.ContainsFunc(l.asked, func(r why.Row) bool {
		a, known := l.heardOf[r.Node]
		return !known || a.of != keyOf(&r)
	})
}

// Ask reads events about the rows that the last picture had questions about. The next picture shows the answers.
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
