// Package console is what the command lines of our programs share: how they print, how they name themselves, how they
// report a wrong call, and their exit codes.
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

// Everynode is the program that texts name in commands.
const Everynode = "everynode"

// Console is where a command reads and writes.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
	// Program is what users type to call this program. In text for people it replaces "everynode".
	Program string
}

// usageError is an error in how a command was called.
type usageError struct{ error }

// Usage makes err an error in how a command was called.
func Usage(err error) error { return usageError{err} }

// ExitStatus is an exit code without an error message of ours.
type ExitStatus int

func (e ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failure is an error that makes the program exit with the given code.
type failure struct {
	error
	code int
}

func (f failure) Unwrap() error { return f.error }

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

// Prepare makes root behave as all our programs do: the caller prints errors, and texts are as wide as the terminal.
// Call it once all commands have been added.
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
