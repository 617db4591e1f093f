package console

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// text is a writer of text for people.
func (c *Console) text(to io.Writer) io.Writer {
	if p, is := to.(plain); is {
		return p
	}
	return plain{to, c.Program}
}

// Say writes a text for people to Out.
func (c *Console) Say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.text(c.Out), format, args...)
	return err
}

// Warn writes a text for people to Err.
func (c *Console) Warn(format string, args ...any) {
	fmt.Fprintf(c.text(c.Err), format, args...)
}

// plain writes text for people. What a terminal would not print but do comes out as a question mark: escape
// sequences, and what turns the direction of text. Much of what is printed was written by others, who may be
// tenants of the cluster: the messages of pods and events, labels, annotations, and what the API server says of them.
// It also names this program as people call it.
type plain struct {
	io.Writer
	program string
}

func (p plain) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.Writer, called(p.program, plainly(string(text)))); err != nil {
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

// shared are the commands that more programs than everynode have, also as the plugin of kubectl.
var shared = regexp.MustCompile(`(?:\bkubectl )?\beverynode (audit|fleet|plan|rollout|ui|version|watch|why)\b`)

// called is the text with the commands as people type them for this program. All parts of everynode name its commands as
// everynode has them: which program runs is not theirs to know.
func called(program, text string) string {
	if program == Everynode {
		return text
	}
	return shared.ReplaceAllString(text, program+" $1")
}

// Called is the text with the commands of this program as people type them.
func (c *Console) Called(text string) string { return called(c.Program, text) }

// callHelp names the program in the help of a command and of those below it.
func (c *Console) callHelp(command *cobra.Command) {
	for _, text := range []*string{&command.Short, &command.Long, &command.Example} {
		*text = c.Called(*text)
	}
	for _, sub := range command.Commands() {
		c.callHelp(sub)
	}
}
