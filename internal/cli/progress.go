package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"everynode/internal/cli/console"
)

// progress tells what a long command does: a line for each step, when it is
// done, with the time since the start of the command and the step's own.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	begin time.Time

	terminal bool
	counting bool // the last line is a count, which the next line takes the place of
}

func newProgress(out io.Writer) *progress {
	_, terminal := console.WidthOf(out)
	return &progress{out: out, begin: time.Now(), terminal: terminal && os.Getenv("TERM") != "dumb"}
}

// step starts a step; calling done prints it.
func (p *progress) step() (done func(format string, args ...any)) {
	begin := time.Now()
	return func(format string, args ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.counting {
			fmt.Fprint(p.out, "\r\033[K")
			p.counting = false
		}
		fmt.Fprintf(p.out, "[%5.1fs] %s (%.1fs)\n", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...), time.Since(begin).Seconds())
	}
}

// counter returns what tells how far a count is. On a terminal each count takes
// the place of the one before.
func (p *progress) counter() func(now, all int) {
	begin, first := time.Now(), -1
	return func(now, all int) {
		if first < 0 {
			first = now
		}
		text := fmt.Sprintf("[%5.1fs] %s of %s simulated nodes Ready", time.Since(p.begin).Seconds(), thousands(now), thousands(all))
		if now > first {
			left := time.Duration(float64(time.Since(begin)) / float64(now-first) * float64(all-now))
			text += fmt.Sprintf(", about %s more", left.Round(time.Second))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.terminal {
			fmt.Fprintf(p.out, "\r%s\033[K", text)
			p.counting = true
		} else {
			fmt.Fprintln(p.out, text)
		}
	}
}

// endCount leaves the last count where it is, for an error that follows.
func (p *progress) endCount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counting {
		fmt.Fprintln(p.out)
		p.counting = false
	}
}

// elapsed is the time since the start of the command, in seconds.
func (p *progress) elapsed() float64 { return time.Since(p.begin).Seconds() }
