package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/engine/command"
)

func controllerCommand() *cobra.Command { return command.New() }

func handoverCommand(cluster *target) *cobra.Command {
	c := command.NewHandover(cluster.config)
	cluster.addFlags(c)
	return c
}
