package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec and OIDC credentials in kubeconfigs
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	componentcli "k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

func kubectlCommand(cluster *target) *cobra.Command {
	c := &cobra.Command{
		Use:   "kubectl [--name NAME | --data-dir DIR] [ARGUMENTS]",
		Short: "Stock kubectl, pointed at the cluster of this machine",
		Long: `kubectl as Kubernetes ships it. Unless --kubeconfig or KUBECONFIG says otherwise
it talks to the cluster of this machine (EVERYNODE_DATA_DIR); where there is none in the
usual place, to that of your own kubeconfig. --name and --data-dir come before kubectl's
own arguments, and win over KUBECONFIG.
A link named kubectl to this binary does the same, without these two.`,
		Example: `  everynode kubectl get nodes
  everynode kubectl --name staging get nodes
  everynode kubectl apply -f examples/node-audit-daemonset.yaml`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			own, args := ownFlags(args)
			if err := console.Parse(c, c.PersistentFlags(), own); err != nil {
				return err
			}
			if len(own) > 0 {
				if err := cluster.chooseForKubectl(c, args); err != nil {
					return err
				}
			}
			if code := runKubectl(args, cluster.dataDir, len(own) > 0 || namedByEnv()); code != console.ExitOK {
				return console.ExitStatus(code)
			}
			return nil
		},
	}
	cluster.addFlags(c)
	return c
}

// ownFlags takes the flags that choose the cluster off the beginning of the arguments. After
// the name of a command of kubectl, flags of the same names are kubectl's.
func ownFlags(args []string) (own, kubectls []string) {
	for len(args) > 0 {
		name, _, whole := strings.Cut(args[0], "=")
		if name != "--name" && name != "--data-dir" {
			break
		}
		n := 2
		if whole {
			n = 1
		}
		n = min(n, len(args))
		own, args = append(own, args[:n]...), args[n:]
	}
	return own, args
}

// chooseForKubectl lets nothing else choose the cluster if flags have named it.
func (t *target) chooseForKubectl(c *cobra.Command, args []string) error {
	if namesCluster(args) {
		return console.WrongCall(c, errors.New("--name and --data-dir go without kubectl's --kubeconfig and --server: each of them chooses the cluster"))
	}
	if _, err := os.Stat(localcluster.AdminKubeconfig(t.dataDir)); err != nil {
		return localcluster.Unreadable(t.dataDir, err)
	}
	return os.Unsetenv("KUBECONFIG")
}

// namedByEnv reports whether the environment names the data directory.
func namedByEnv() bool { return os.Getenv("EVERYNODE_DATA_DIR") != "" }

// runKubectl runs kubectl in this process. If the command fails, kubectl ends the
// process itself, with its own exit code. named means that the user has named the
// data directory.
func runKubectl(args []string, dataDir string, named bool) int {
	os.Args = append([]string{"kubectl"}, args...) // kubectl finds its plugins by os.Args
	config := localcluster.AdminKubeconfig(dataDir)
	byDefault := usesDefaultConfig(args)
	if _, err := os.Stat(config); err == nil && byDefault {
		if err := os.Setenv("KUBECONFIG", config); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			return console.ExitError
		}
	}
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return console.ExitUsage
	}
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	// These are kubectl's own defaults.
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	kubectl := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     os.Args,
		IOStreams:     streams,
		ConfigFlags: flags.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
			if err := unreachable(c, dataDir, named && byDefault, kubeconfigsOf(args)); err != nil {
				c.Dial = refuseToDial(err)
			}
			return c
		}),
	})
	if err := componentcli.RunNoErrOutput(kubectl); err != nil {
		cmdutil.CheckErr(err)
	}
	return console.ExitOK
}

// refuseToDial returns a dialer for a cluster that is known not to run: it ends the
// process with our own error as soon as kubectl connects. Commands that need no
// cluster never get here. If the dialer returned the error, kubectl would print it
// five times, as a network error.
func refuseToDial(err error) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(console.ExitError)
		return nil, err
	}
}

// unreachable returns why the cluster that a client is configured for cannot answer,
// or nil if nothing is known to keep it from that. A user who has named the data
// directory means the cluster in it, and not another one that kubectl finds. files are
// the kubeconfigs that the user has named.
func unreachable(c *rest.Config, dataDir string, named bool, files []string) error {
	if _, err := os.Stat(localcluster.AdminKubeconfig(dataDir)); err != nil && named {
		return localcluster.Unreadable(dataDir, err)
	}
	dirs := localcluster.Dirs([]string{dataDir})
	for _, file := range files {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, dir := range dirs {
		own, err := localcluster.SavedConfig(dir)
		if err == nil && own.Host == c.Host && bytes.Equal(own.CAData, c.CAData) {
			return localcluster.Stopped(dir)
		}
	}
	if len(c.CAData) > 0 || c.CAFile != "" || c.Host != clientcmd.ClusterDefaults.Server && c.Host != "http://localhost:8080" {
		return nil
	}
	// Nobody has named a cluster, and kubectl would use its default address.
	if len(files) > 0 {
		return fmt.Errorf("no kubeconfig at %s: if it belonged to a cluster of everynode, it was deleted by `everynode down --purge`", strings.Join(files, ", "))
	}
	_, err := os.Stat(localcluster.AdminKubeconfig(dataDir))
	return localcluster.Unreadable(dataDir, cmp.Or(err, fs.ErrNotExist))
}

// kubeconfigsOf returns the files that a flag or the environment names.
func kubeconfigsOf(args []string) []string {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	for i, arg := range args {
		switch name, value, has := strings.Cut(arg, "="); {
		case name == "--kubeconfig" && has:
			return []string{value}
		case name == "--kubeconfig" && i+1 < len(args):
			return args[i+1 : i+2]
		}
	}
	return slices.DeleteFunc(filepath.SplitList(os.Getenv("KUBECONFIG")), func(file string) bool { return file == "" })
}

// usesDefaultConfig reports whether neither the environment nor a flag names the
// cluster.
func usesDefaultConfig(args []string) bool {
	return os.Getenv("KUBECONFIG") == "" && !namesCluster(args)
}

// namesCluster reports whether a flag of kubectl names the cluster.
func namesCluster(args []string) bool {
	for _, arg := range args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--":
			return false
		case "--kubeconfig", "--server", "-s":
			return true
		}
	}
	return false
}
