package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/engine/command"
)

func (a *app) controllerCommand() *cobra.Command { return command.New() }
