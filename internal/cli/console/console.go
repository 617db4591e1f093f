// Package console is what the command lines of our programs share: how they print, how they name themselves, what they
// say of a wrong call, and what they exit with.
package console

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	ExitOK    = 0
	ExitError = 1
	ExitUsage = 2
)

// Version is the version of everynode; the build sets it.
var Version = "devel"

// Everynode is the program whose commands texts name.
const Everynode = "everynode"

// Console is where a command reads and writes.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
	// Program is what people type for this program. It takes the place of "everynode" in what is printed for people.
	Program string
}

// usageError is an error in how a command was called.
type usageError struct{ error }

// Usage makes err an error in how a command was called.
func Usage(err error) error { return usageError{err} }

// ExitStatus is an exit code without a message of ours.
type ExitStatus int

func (e ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failure is an error of a command that has an exit code of its own for errors.
type failure struct {
	error
	code int
}

// Failure makes the program exit with the code because of err.
func Failure(err error, code int) error { return failure{err, code} }

// ExitCode prints err, if any, and turns it into an exit code.
func (c *Console) ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var status ExitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(c.text(c.Err), "error: %v\n", err)
	var failed failure
	var usage usageError
	switch {
	case errors.As(err, &failed):
		return failed.code
	case errors.As(err, &usage):
		return ExitUsage
	default:
		return ExitError
	}
}

// Prepare makes root behave as all our programs do: errors are the caller's to print, and texts are as wide as they may be.
// Its commands must be there already.
func (c *Console) Prepare(root *cobra.Command) {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", PlainWidth)))
	wrapArgs(root)
	c.callHelp(root)
}
