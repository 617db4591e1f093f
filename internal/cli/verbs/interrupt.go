package verbs

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// interruption is the error of a command that the user has ended. It hides which request failed because of that.
type interruption struct{ error }

func (interruption) Error() string { return "interrupted" }

func (i interruption) Unwrap() error { return i.error }

// interruptible makes a command and its subcommands say that they were interrupted, if they were.
func interruptible(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			err := run(c, args)
			if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return interruption{err}
			}
			return err
		}
	}
	for _, sub := range c.Commands() {
		interruptible(sub)
	}
}
