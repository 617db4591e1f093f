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

// What a terminal is told (ECMA-48, and xterm's private modes, which nearly all terminals know): the alternate
// screen, which leaves what was there before as it was, and the cursor, which would only blink about.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	eraseAll    = "\x1b[2J"
	eraseBelow  = "\x1b[%d;1H\x1b[J"
	eraseLine   = "\x1b[%d;1H\x1b[2K"
)

// endKeys are q, Ctrl-C and Ctrl-D, which do not send signals while keys are read one by one.
const endKeys = "qQ\x03\x04"

// screen is a terminal that is drawn on as a whole. Only lines that have changed are written.
type screen struct {
	out           *os.File
	colour        bool
	columns, rows int
	there         []string // the lines as they are
	restore       func() error
	sizes         chan os.Signal
	done          chan struct{}
	again, enough chan struct{}
}

// openScreen takes the terminal over; close gives it back. If in is a terminal, keys are read from it.
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

// read waits for a key that ends. It ends with the process: nothing interrupts a read from a terminal.
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
			// Erased first: at the end of a full line a terminal would erase its last letter.
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

// terminalOf is the output, where it is a terminal that can be drawn on.
func terminalOf(out io.Writer) (*os.File, bool) {
	f, ok := out.(*os.File)
	return f, ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// plainRows is how many lines a picture has where nobody says how many it may.
const plainRows = 24

// sizeOf is the terminal's size, or what it is taken for where it does not say.
func sizeOf(out *os.File) (columns, rows int) {
	columns, rows, err := term.GetSize(int(out.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return plainSize()
	}
	return columns, rows
}

// plainSize is how large a picture is that is not for a terminal: as shells say of their own.
func plainSize() (columns, rows int) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	return number("COLUMNS", console.PlainWidth), number("LINES", plainRows)
}
