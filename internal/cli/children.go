package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/node"
)

// childCommands are the roles that everynode gives itself when it starts its
// own processes. Nobody types them.
func (a *app) childCommands() []*cobra.Command {
	return []*cobra.Command{
		{
			Use: "kubelet", Hidden: true, DisableFlagParsing: true,
			RunE: func(c *cobra.Command, args []string) error { return node.Kubelet(c.Context(), args) },
		},
		{
			Use: "kube-proxy", Hidden: true, DisableFlagParsing: true,
			RunE: func(c *cobra.Command, args []string) error { return node.KubeProxy(c.Context(), args) },
		},
		a.enterCommand(),
		a.becomeCommand(),
		a.simulatorCommand(),
	}
}
