package verbs

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/console"
)

// givenCluster is the cluster of --kubeconfig.
type givenCluster struct{ kubeconfig string }

func (g *givenCluster) AddFlags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&g.kubeconfig, "kubeconfig", "", "")
}

func (g *givenCluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", g.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("%s is not a kubeconfig: %w", g.kubeconfig, err)
	}
	return config, nil
}

func (*givenCluster) Namespace() (string, error) { return metav1.NamespaceDefault, nil }

func (*givenCluster) Kubectl() ([]string, error) { return []string{"kubectl"}, nil }

func (g *givenCluster) Flags() (ours, kubectls []string) {
	if g.kubeconfig == "" {
		return nil, nil
	}
	given := []string{"--kubeconfig=" + g.kubeconfig}
	return given, given
}

func (*givenCluster) EngineOff() bool { return false }

// run runs a command line as a program with only these commands does.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	return runUntil(context.Background(), args, in, out, errs)
}

// runUntil is run for a user who interrupts the command when ctx ends.
func runUntil(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	c := &console.Console{In: in, Out: out, Err: errs, Program: console.Everynode}
	root := &cobra.Command{Use: "everynode"}
	root.AddCommand(Commands(c, &givenCluster{})...)
	c.Prepare(root)
	root.SetArgs(args[1:])
	return c.ExitCode(root.ExecuteContext(ctx))
}
