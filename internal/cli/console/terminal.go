package console

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// PlainWidth is how wide texts are where the width of the output is not known.
const PlainWidth = 80

// WidthOf returns how many columns out has, and whether it is a terminal.
func WidthOf(out io.Writer) (columns int, terminal bool) {
	if p, is := out.(plain); is {
		out = p.Writer
	}
	f, ok := out.(*os.File)
	if !ok {
		return PlainWidth, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return PlainWidth, false
	}
	if columns < minWidth {
		return PlainWidth, true
	}
	return columns, true
}

// minWidth is the least width of a terminal that is believed.
const minWidth = 40

// Wrapped breaks a text between words into lines of at most width columns. A word
// that is longer stays whole.
func Wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
