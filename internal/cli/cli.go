// Package cli is the command line: one file for each command. It is the only
// package that knows all the others, and wires them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// app carries what every command needs.
type app struct {
	in       io.Reader
	out, err io.Writer
	dataDir  string
}

const versionFlag = "version"

// usageError is an error in how the command was called.
type usageError struct{ error }

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	if filepath.Base(args[0]) == "kubectl" {
		return runKubectl(args[1:], dataDirFromEnv())
	}
	a := &app{in: in, out: out, err: errw}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.exitCode(root.ExecuteContext(ctx))
}

// exitCode prints err, if any, and turns it into an exit code.
func (a *app) exitCode(err error) int {
	var usage usageError
	var code exitStatus
	var failed failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &failed):
		fmt.Fprintf(plain{a.err}, "error: %v\n", err)
		return failed.code
	case errors.As(err, &usage):
		fmt.Fprintf(plain{a.err}, "error: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(plain{a.err}, "error: %v\n", err)
		return exitError
	}
}

// exitStatus is an exit code without a message of ours.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failure is an error of a command that has an exit code of its own for errors.
type failure struct {
	error
	code int
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
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
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
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", plainWidth)))
	root.AddCommand(a.upCommand(), a.downCommand(), a.listCommand(), a.statusCommand(), a.nodeCommand(), a.imageCommand(),
		a.kubeconfigCommand(), a.kubectlCommand(), a.serverCommand(), a.tokenCommand(), a.agentCommand(),
		a.controllerCommand(), a.whyCommand(), a.auditCommand(), a.planCommand(), a.rolloutCommand(), a.fleetCommand(), a.handoverCommand(), a.watchCommand(), a.logsCommand(), a.versionCommand())
	root.AddCommand(a.childCommands()...)
	wrapArgs(root)
	return root
}

// dataDirFlag adds --data-dir and --name.
func (a *app) dataDirFlag(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.dataDir, "data-dir", dataDirFromEnv(), "where the cluster's state is kept (EVERYNODE_DATA_DIR)")
	c.PersistentFlags().Var(&clusterName{dataDir: &a.dataDir}, "name", "name of the cluster, of several: chooses the data directory")
}
