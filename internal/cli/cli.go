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
	"everynode/internal/cli/verbs"
)

// app carries what every command needs.
type app struct {
	console.Console
	dataDir string
}

const versionFlag = "version"

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	if filepath.Base(args[0]) == "kubectl" {
		return runKubectl(args[1:], dataDirFromEnv())
	}
	a := newApp(in, out, errw)
	root := a.root()
	root.SetArgs(args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.ExitCode(root.ExecuteContext(ctx))
}

// Root is the command line as a whole, for what describes it.
func Root() *cobra.Command { return newApp(nil, io.Discard, io.Discard).root() }

func newApp(in io.Reader, out, errw io.Writer) *app {
	return &app{Console: console.Console{In: in, Out: out, Err: errw, Program: console.Everynode}}
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
				return a.printVersion("")
			}
			return c.Help()
		},
	}
	// Kubernetes' packages put a flag of this name on every program. It works
	// as people expect, but only on the root, so no other command shows it.
	if err := pflag.CommandLine.MarkHidden(versionFlag); err != nil {
		panic(err) // only for a flag that does not exist
	}
	root.AddCommand(a.upCommand(), a.downCommand(), a.listCommand(), a.statusCommand(), a.nodeCommand(), a.imageCommand(),
		a.kubeconfigCommand(), a.kubectlCommand(), a.serverCommand(), a.tokenCommand(), a.agentCommand(),
		a.controllerCommand(), a.handoverCommand(), a.logsCommand(), a.versionCommand())
	root.AddCommand(verbs.Commands(&a.Console, &ownCluster{app: a})...)
	root.AddCommand(a.childCommands()...)
	a.Prepare(root)
	return root
}

// dataDirFlag adds --data-dir and --name.
func (a *app) dataDirFlag(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.dataDir, "data-dir", dataDirFromEnv(), "where the cluster's state is kept (EVERYNODE_DATA_DIR)")
	c.PersistentFlags().Var(&clusterName{dataDir: &a.dataDir}, "name", "name of the cluster, of several: chooses the data directory")
}
