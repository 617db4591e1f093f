package cli

import (
	"io"
	"strings"
	"unicode"
)

// plain writes text for people. What a terminal would not print but do comes out as a question mark: escape
// sequences, and what turns the direction of text. Much of what is printed was written by others, who may be
// tenants of the cluster: the messages of pods and events, labels, annotations, and what the API server says of them.
type plain struct{ io.Writer }

func (p plain) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.Writer, plainly(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// plainly is the text as plain writes it.
func plainly(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
