package console

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// Progress prints what a long command does: a line for each step when it is
// done, with the time since the command began and the time that the step took.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	begin time.Time

	terminal bool
	counting bool // the last line is a count, which the next line replaces
}

// NewProgress is the progress of a command that begins now.
func NewProgress(out io.Writer) *Progress {
	_, terminal := WidthOf(out)
	return &Progress{out: out, begin: time.Now(), terminal: terminal && os.Getenv("TERM") != "dumb"}
}

// Step starts a step; calling done prints it.
func (p *Progress) Step() (done func(format string, args ...any)) {
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

// Counter returns a function that prints a count. On a terminal each count
// replaces the one before.
func (p *Progress) Counter() func(now, all int) {
	begin, first := time.Now(), -1
	return func(now, all int) {
		if first < 0 {
			first = now
		}
		text := fmt.Sprintf("[%5.1fs] %s of %s simulated nodes Ready", time.Since(p.begin).Seconds(), Thousands(now), Thousands(all))
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

// EndCount ends the line of the last count, so that an error is printed below
// it.
func (p *Progress) EndCount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counting {
		fmt.Fprintln(p.out)
		p.counting = false
	}
}

// Elapsed is the time since the command began, in seconds.
func (p *Progress) Elapsed() float64 { return time.Since(p.begin).Seconds() }

// Thousands writes a number with a comma between its thousands.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
