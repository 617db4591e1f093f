package verbs

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// interruption is the error of a command that the user has ended. It hides which request failed because of that, unless
// the request was to change something.
type interruption struct{ error }

func (i interruption) Error() string {
	var u unanswered
	if errors.As(i.error, &u) {
		return "interrupted: " + u.hint
	}
	return "interrupted"
}

func (i interruption) Unwrap() error { return i.error }

// unanswered is the error of a request to change something whose answer did not come: it may have been carried out.
type unanswered struct {
	error
	hint string // what is not known, and how the user finds it out
}

func (u unanswered) Error() string { return fmt.Sprintf("%v: %s", u.error, u.hint) }

func (u unanswered) Unwrap() error { return u.error }

// mayBeDone adds the hint to the error of a request to change something if the API server may have received it and has
// not answered.
func mayBeDone(err error, hint string) error {
	var refused apierrors.APIStatus
	if utilnet.IsConnectionRefused(err) || errors.As(err, &refused) && !apierrors.IsTimeout(err) {
		return err
	}
	return unanswered{err, hint}
}

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
