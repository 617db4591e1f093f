package command

import (
	"errors"

	"github.com/spf13/cobra"
)

// wrongCall is an error in how a command was called.
type wrongCall struct{ error }

func (w wrongCall) Unwrap() error { return w.error }

// WrongCall makes err, if it is not nil, an error in how a command was called. It is also a function for
// cobra.Command.SetFlagErrorFunc.
func WrongCall(_ *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return wrongCall{err}
}

// ExitCode returns the exit code of a program that ends with err: 2 for what WrongCall has made, so that it cannot be taken
// for what a command has found out.
func ExitCode(err error) int {
	switch wrong := (wrongCall{}); {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		return 2
	}
	return 1
}
