package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/engine/command"
)

func (a *app) controllerCommand() *cobra.Command { return command.New() }

func (a *app) handoverCommand() *cobra.Command {
	c := command.NewHandover(a.configOf)
	a.dataDirFlag(c)
	return c
}
