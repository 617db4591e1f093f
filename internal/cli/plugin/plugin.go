// Package plugin is the command line of kubectl-everynode, the kubectl plugin: the commands that need only an API
// server, with kubectl's own flags.
package plugin

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/verbs"
)

// The names that the program can be called by. kubectl calls the second one for completions.
const (
	pluginName   = "kubectl-everynode"
	completeName = "kubectl_complete-everynode"
	aloneName    = "everynode-ctl"
)

// asPlugin is what users type where kubectl finds the program.
const asPlugin = "kubectl everynode"

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	called := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	rest := args[1:]
	if called == completeName {
		rest = append([]string{cobra.ShellCompRequestCmd}, rest...)
	}
	c := &console.Console{In: in, Out: out, Err: errw, Program: asPlugin}
	if called == aloneName {
		c.Program = aloneName
	}
	root := newRoot(c)
	root.SetArgs(rest)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.ExitCode(root.ExecuteContext(ctx))
}

// Root returns the whole command line, for programs that describe it.
func Root() *cobra.Command { return described(asPlugin) }

// AloneRoot is Root under the program's own name, without kubectl.
func AloneRoot() *cobra.Command { return described(aloneName) }

func described(program string) *cobra.Command {
	return newRoot(&console.Console{Out: io.Discard, Err: io.Discard, Program: program})
}

func newRoot(c *console.Console) *cobra.Command {
	root := &cobra.Command{
		Use:   pluginName,
		Short: "What DaemonSets do on each node, what can take them down, and releases in waves",
		Long: `Say why a node has a DaemonSet's pod or none, what one edit can take down and what a change
would do, watch the fleet, and steer releases in waves. It asks the API server that kubectl asks, takes kubectl's flags
for that, and works with any cluster; for 'rollout' and 'fleet' everynode's engine must run there.`,
		Example: `  everynode audit                            # what one edit, label or release can take down
  everynode why node-3 -n kube-system
  everynode plan -f agent.yaml               # what a change would do, node by node
  everynode rollout status ds/agent -n monitoring
  everynode watch ds/agent -n monitoring --context production
  everynode ui --context production          # the fleet in a browser`,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: c.Program},
		Args:        cobra.NoArgs,
		RunE:        func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cluster := newConfigured()
	cluster.addTo(root)
	root.AddCommand(verbs.Commands(c, cluster)...)
	root.AddCommand(versionCommand(c))
	if c.Program == aloneName {
		root.Use = aloneName // shells ask the program that they complete for
	} else {
		root.CompletionOptions.HiddenDefaultCmd = true // shells complete for kubectl, which asks this program
	}
	c.Prepare(root)
	return root
}

func versionCommand(to *console.Console) *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  everynode version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Everynode string `json:"everynode"`
				Go        string `json:"go"`
				Platform  string `json:"platform"`
			}{console.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return to.Print(output, v, func() error {
				return to.Say("%s %s, %s, %s\n", pluginName, v.Everynode, v.Go, v.Platform)
			})
		},
	}
	console.OutputFlag(c, &output)
	return c
}
