package console

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Text that others have written cannot move the reader's cursor, in whatever pieces it is written.
func TestPlainText(t *testing.T) {
	evil := "pod \x1b]0;owned\x07\x1b[2J\u202etxt.exe\r\nnext\tcolumn é 世"
	want := "pod ?]0;owned??[2J?txt.exe?\nnext\tcolumn é 世"
	var out, errs bytes.Buffer
	c := &Console{Out: &out, Err: &errs, Program: Everynode}
	if err := c.Print("", nil, func() error { _, err := fmt.Fprint(c.Out, evil); return err }); err != nil || out.String() != want {
		t.Errorf("%q (%v), want %q", out.String(), err, want)
	}
	if c.Out != &out {
		t.Error("what comes after it goes somewhere else")
	}
	c.ExitCode(errors.New(evil))
	if got := errs.String(); !strings.Contains(got, want) {
		t.Errorf("an error is printed as %q", got)
	}
	out.Reset()
	if err := c.Print("json", evil, nil); err != nil || strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("%q (%v)", out.String(), err)
	}
}

// Text for people names the program that runs. Output for machines stays as it is.
func TestCalled(t *testing.T) {
	said := "try everynode why node-1, then everynode rollout status ds/x; started by everynode up, everynodes, everynode wash"
	want := strings.NewReplacer("everynode why", "kubectl everynode why", "everynode rollout", "kubectl everynode rollout").Replace(said)
	var out, errs bytes.Buffer
	c := &Console{Out: &out, Err: &errs, Program: "kubectl everynode"}
	if err := c.Print("", nil, func() error { _, err := fmt.Fprint(c.Out, said); return err }); err != nil || out.String() != want {
		t.Errorf("%q (%v), want %q", out.String(), err, want)
	}
	if c.ExitCode(errors.New(said)); errs.String() != "error: "+want+"\n" {
		t.Errorf("an error is printed as %q", errs.String())
	}
	out.Reset()
	if err := c.Print("json", said, nil); err != nil || strings.Contains(out.String(), "kubectl") {
		t.Errorf("%q (%v)", out.String(), err)
	}
	sub := &cobra.Command{Use: "why", Example: "  everynode why node-1", Run: func(*cobra.Command, []string) {}}
	root := &cobra.Command{Use: "kubectl-everynode", Long: "as 'everynode audit' has it"}
	root.AddCommand(sub)
	c.Prepare(root)
	if root.Long != "as 'kubectl everynode audit' has it" || sub.Example != "  kubectl everynode why node-1" {
		t.Errorf("help: %q, %q", root.Long, sub.Example)
	}
}
