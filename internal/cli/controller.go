package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/engine/command"
)

func controllerCommand() *cobra.Command { return command.New() }
