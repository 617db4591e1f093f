package testbed

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Main is the whole of a program that measures: it runs the command, or the role in which the program has started
// itself. It returns the exit code.
func Main(command func() *cobra.Command) int {
	if len(os.Args) > 1 {
		if code, ok := PlayRole(os.Args[1], os.Args[2:]); ok {
			return code
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if command().ExecuteContext(ctx) != nil {
		return 1 // cobra has printed the error
	}
	return 0
}
