package verbs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/term"

	"everynode/internal/cli/console"
	"everynode/internal/fleetmap"
)

// Control sequences (ECMA-48, and xterm's private modes, which nearly all terminals know): for the alternate screen,
// so that the text before stays as it was, and to hide the cursor, which would only distract.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	eraseAll    = "\x1b[2J"
	eraseBelow  = "\x1b[%d;1H\x1b[J"
	eraseLine   = "\x1b[%d;1H\x1b[2K"
)

// endKeys are q, Ctrl-C and Ctrl-D. In raw mode they do not send signals.
const endKeys = "qQ\x03\x04"

// screen is a terminal that shows a picture. Only lines that have changed are written.
type screen struct {
	out           *os.File
	colour        bool
	columns, rows int
	there         []string // the lines that it shows
	restore       func() error
	sizes         chan os.Signal
	done          chan struct{}
	again, enough chan struct{}
}

// openScreen takes over the terminal; close restores it. If in is a terminal, its keys are read.
func openScreen(in io.Reader, out *os.File) (*screen, error) {
	s := &screen{out: out, colour: coloured(), restore: func() error { return nil }, sizes: make(chan os.Signal, 1),
		done: make(chan struct{}), again: make(chan struct{}, 1), enough: make(chan struct{})}
	if keys, ok := in.(*os.File); ok && term.IsTerminal(int(keys.Fd())) {
		fd := int(keys.Fd())
		before, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("set up the terminal: %w; --once does without", err)
		}
		s.restore = func() error { return term.Restore(fd, before) }
		go s.read(keys)
	}
	if err := takesSequences(out); err != nil {
		return nil, errors.Join(err, s.restore())
	}
	if _, err := out.WriteString(enterScreen); err != nil {
		return nil, errors.Join(fmt.Errorf("write to the terminal: %w", err), s.restore())
	}
	notifyOfSize(s.sizes)
	go s.resize()
	return s, nil
}

// read waits for one of endKeys. It runs until the process ends: nothing interrupts a read from a terminal.
func (s *screen) read(keys io.Reader) {
	typed := make([]byte, 16)
	for {
		n, err := keys.Read(typed)
		if err != nil || strings.ContainsAny(string(typed[:n]), endKeys) {
			close(s.enough)
			return
		}
	}
}

func (s *screen) resize() {
	for {
		select {
		case <-s.done:
			return
		case <-s.sizes:
			select {
			case s.again <- struct{}{}:
			default:
			}
		}
	}
}

func (s *screen) resized() <-chan struct{} { return s.again }
func (s *screen) quit() <-chan struct{}    { return s.enough }

func (s *screen) draw(m *fleetmap.Model) error {
	columns, rows := sizeOf(s.out)
	frame := fleetmap.Frame(m, columns, rows)
	lines := make([]string, len(frame))
	for i, l := range frame {
		if lines[i] = l.Plain(); s.colour {
			lines[i] = l.Coloured()
		}
	}
	var b strings.Builder
	if columns != s.columns || rows != s.rows {
		s.columns, s.rows, s.there = columns, rows, nil
		b.WriteString(eraseAll)
	}
	for i, line := range lines {
		if i >= len(s.there) || line != s.there[i] {
			// Erase first: at the end of a full line a terminal would erase the last letter.
			fmt.Fprintf(&b, eraseLine, i+1)
			b.WriteString(line)
		}
	}
	if len(lines) < len(s.there) {
		fmt.Fprintf(&b, eraseBelow, len(lines)+1)
	}
	s.there = lines
	if b.Len() == 0 {
		return nil
	}
	if _, err := s.out.WriteString(b.String()); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

func (s *screen) close() error {
	signal.Stop(s.sizes)
	close(s.done)
	_, err := s.out.WriteString(leaveScreen)
	return errors.Join(err, s.restore())
}

// terminalOf returns out if it is a terminal that can be drawn on.
func terminalOf(out io.Writer) (*os.File, bool) {
	f, ok := out.(*os.File)
	return f, ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// plainRows is how many lines a picture has if its size is not known.
const plainRows = 24

// sizeOf returns the terminal's size, or plainSize if the terminal does not know it.
func sizeOf(out *os.File) (columns, rows int) {
	columns, rows, err := term.GetSize(int(out.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return plainSize()
	}
	return columns, rows
}

// plainSize is the size of a picture that is not for a terminal: COLUMNS and LINES, as in shells, or a default.
func plainSize() (columns, rows int) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	return number("COLUMNS", console.PlainWidth), number("LINES", plainRows)
}
