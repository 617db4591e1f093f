package fleetmap

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Line is a line of a frame.
type Line []Span

// Span is a piece of text in one style.
type Span struct {
	Text  string
	Style string // the code for a terminal; empty: plain
}

// bold is the style of what to read first. alarm is the style of problems with the picture itself.
const (
	bold  = "1"
	alarm = "1;31"
)

// Plain returns the line without colours.
func (l Line) Plain() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return strings.TrimRight(b.String(), " ")
}

// Coloured returns the line for a terminal.
func (l Line) Coloured() string {
	var b strings.Builder
	for _, s := range l {
		if s.Style == "" || s.Text == "" {
			b.WriteString(s.Text)
			continue
		}
		b.WriteString("\x1b[" + s.Style + "m" + s.Text + "\x1b[0m")
	}
	return b.String()
}

// clip cuts the line to at most columns columns.
func (l Line) clip(columns int) Line {
	for i, s := range l {
		if n := width(s.Text); n > columns {
			return append(l[:i:i], Span{short(s.Text, columns), s.Style})
		} else {
			columns -= n
		}
	}
	return l
}

// harmless returns the text in one line, with a question mark for everything that a terminal would execute
// instead of printing it: escape sequences, and characters that change the direction of text.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// firstWide is the first of the letters that some terminals draw two columns wide. Some letters beyond it
// take one column or none. A line that is too short does no harm; one that is too long does.
const firstWide = 0x1100

func width(text string) (columns int) {
	for _, r := range text {
		columns += widthOf(r)
	}
	return columns
}

func widthOf(r rune) int {
	if r >= firstWide {
		return 2
	}
	return 1
}

// short cuts a text to at most columns columns, and marks the cut if there is room for it.
func short(text string, columns int) string {
	if width(text) <= columns {
		return text
	}
	mark := "..."
	if columns < 2*len(mark) {
		mark = ""
	}
	return head(text, columns-len(mark)) + mark
}

// shortName cuts out the middle: names differ at either end.
func shortName(name string, columns int) string {
	const mark = ".."
	if width(name) <= columns {
		return name
	}
	if columns < 4*len(mark) {
		return short(name, columns)
	}
	room := columns - len(mark)
	return head(name, room-room/2) + mark + tail(name, room/2)
}

func head(text string, columns int) string {
	for i, r := range text {
		if columns -= widthOf(r); columns < 0 {
			return text[:i]
		}
	}
	return text
}

func tail(text string, columns int) string {
	runes := []rune(text)
	at := len(runes)
	for at > 0 && columns >= widthOf(runes[at-1]) {
		at--
		columns -= widthOf(runes[at])
	}
	return string(runes[at:])
}

// pad fills a text up to columns columns.
func pad(text string, columns int) string {
	return text + strings.Repeat(" ", max(columns-width(text), 0))
}

// number formats n with a comma before each group of three digits.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", number(n), what)
}
