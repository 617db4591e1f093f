package console

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// text returns a writer that writes text for people to the writer to.
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

// plain writes text for people. It replaces each character that a terminal would act on instead of printing with a
// question mark: escape sequences, and characters that change the direction of text. Much of what is printed was
// written by others, who may be tenants of the cluster: the messages of pods and events, labels, annotations, and
// what the API server says about them. It also replaces the program's name with what the user calls this program.
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

// plainly returns the text as plain writes it.
func plainly(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// shared matches the commands that other programs than everynode have, too, also as a plugin of kubectl.
var shared = regexp.MustCompile(`(?:\bkubectl )?\beverynode (audit|fleet|handover|plan|rollout|ui|version|watch|why)\b`)

// called returns the text with the commands as users type them for this program. All parts of everynode write
// commands with its own name, because they do not know which program they run in.
func called(program, text string) string {
	if program == Everynode {
		return text
	}
	return shared.ReplaceAllString(text, program+" $1")
}

// Called returns the text with the commands as users type them for this program.
func (c *Console) Called(text string) string { return called(c.Program, text) }

// callHelp replaces the program's name in the help of a command and its subcommands.
func (c *Console) callHelp(command *cobra.Command) {
	for _, text := range []*string{&command.Short, &command.Long, &command.Example} {
		*text = c.Called(*text)
	}
	for _, sub := range command.Commands() {
		c.callHelp(sub)
	}
}
