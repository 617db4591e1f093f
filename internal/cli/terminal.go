package cli

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// plainWidth is how wide texts are where nobody says how wide they may be.
const plainWidth = 80

// widthOf is how many columns there are, and whether out is a terminal.
func widthOf(out io.Writer) (columns int, terminal bool) {
	if p, is := out.(plain); is {
		out = p.Writer
	}
	f, ok := out.(*os.File)
	if !ok {
		return plainWidth, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return plainWidth, false
	}
	if size.Col < minWidth {
		return plainWidth, true
	}
	return int(size.Col), true
}

// minWidth is what a terminal must have for its width to be believed.
const minWidth = 40

// wrapped breaks a text between words into lines of at most width columns. A word
// that is longer stays whole.
func wrapped(text string, width int) (lines []string) {
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
