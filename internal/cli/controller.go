package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/engine/command"
)

func controllerCommand() *cobra.Command {
	c := command.New()
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := run(c, args)
		if command.ExitCode(err) == console.ExitUsage { // the engine's own program does not know our errors
			return console.WrongCall(c, err)
		}
		return err
	}
	return c
}
