package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/node"
)

// childCommands are the roles in which everynode starts its own processes.
// Users do not type them.
func childCommands(terminal *console.Console, cluster *target) []*cobra.Command {
	return []*cobra.Command{
		{
			Use: "kubelet", Hidden: true, DisableFlagParsing: true,
			RunE: func(c *cobra.Command, args []string) error { return node.Kubelet(c.Context(), args) },
		},
		{
			Use: "kube-proxy", Hidden: true, DisableFlagParsing: true,
			RunE: func(c *cobra.Command, args []string) error { return node.KubeProxy(c.Context(), args) },
		},
		enterCommand(),
		becomeCommand(),
		simulatorCommand(terminal, cluster),
	}
}
