// Package cli is the command line: one file for each command. It is the only
// package that knows all the others, and wires them.
package cli

import (
	"context"
	"io"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/cli/verbs"
)

// app is the command line as a whole.
type app struct {
	console.Console
	cluster target
}

const versionFlag = "version"

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	if filepath.Base(args[0]) == "kubectl" {
		return runKubectl(args[1:], localcluster.DataDirFromEnv(), namedByEnv())
	}
	a := newApp(in, out, errw)
	root := a.root()
	root.SetArgs(args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.ExitCode(root.ExecuteContext(ctx))
}

// Root returns the whole command line, for programs that describe it.
func Root() *cobra.Command { return newApp(nil, io.Discard, io.Discard).root() }

func newApp(in io.Reader, out, errw io.Writer) *app {
	return &app{Console: console.Console{In: in, Out: out, Err: errw, Program: console.Everynode}, cluster: target{err: errw}}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "everynode",
		Short: "One pod on every node, exactly one: Kubernetes DaemonSets in one binary",
		Long: `everynode starts a Kubernetes cluster with real nodes on this machine, joins real
machines to it, and runs the DaemonSet engine on it or on a Kubernetes that you have.`,
		Example: `  everynode up                       # three nodes on this machine
  everynode kubectl get nodes
  everynode node add node-4          # a fourth: every DaemonSet follows
  everynode down`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed(versionFlag) {
				return printVersion(&a.Console, "")
			}
			return c.Help()
		},
	}
	// Kubernetes' packages add a flag of this name to every program. It works
	// as users expect, but only on the root command, so it is hidden.
	if err := pflag.CommandLine.MarkHidden(versionFlag); err != nil {
		panic(err) // only if there is no such flag
	}
	c, cluster := &a.Console, &a.cluster
	root.AddCommand(upCommand{c, cluster}.command(), downCommand{c, cluster}.command(), listCommand(c), statusCommand{c, cluster}.command(),
		nodeCommands{c, cluster}.command(), imageCommands{c, cluster}.command(), kubeconfigCommand(c, cluster), kubectlCommand(cluster),
		serverCommand{c, cluster}.command(), tokenCommands{c, cluster}.command(), agentCommand(c), controllerCommand(),
		logsCommand{c, cluster}.command(), versionCommand(c))
	root.AddCommand(verbs.Commands(c, &ownCluster{cluster: cluster})...)
	root.AddCommand(childCommands(c, cluster)...)
	a.Prepare(root)
	return root
}
