package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells what a long command does: a line for each step, when it is
// done, with the time since the start of the command and the step's own.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	begin time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, begin: time.Now()} }

// step starts a step; calling done prints it.
func (p *progress) step() (done func(format string, args ...any)) {
	begin := time.Now()
	return func(format string, args ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		fmt.Fprintf(p.out, "[%5.1fs] %s (%.1fs)\n", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...), time.Since(begin).Seconds())
	}
}

// elapsed is the time since the start of the command, in seconds.
func (p *progress) elapsed() float64 { return time.Since(p.begin).Seconds() }
