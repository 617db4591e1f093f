// Package command is the command line of the DaemonSet engine alone. The
// everynode binary has it as `everynode controller`; everynode-controller is
// nothing else.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/engine"
)

// options are the flags.
type options struct {
	kubeconfig  string
	leaderElect bool
	createQPS   float64
	allowNewer  bool
	verbosity   int
}

// New is the command `controller`. It runs the engine until its context ends.
func New() *cobra.Command {
	o := options{leaderElect: true}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the DaemonSet engine alone, against any Kubernetes API server",
		Long: `Run the DaemonSet engine alone, against any Kubernetes API server.

It takes the place of the DaemonSet controller in kube-controller-manager. Switch
that one off first (--controllers=*,-daemonset-controller): two engines on one
cluster work against each other.

It takes over what is there, and leaves it as it would be without: no pod
restarts, in either direction.`,
		Example: `  # From a machine that has a kubeconfig
  everynode controller --kubeconfig ~/.kube/config

  # In a pod, several replicas, one of which leads
  everynode controller

  # At most 50 new pods a second, for a registry that cannot take more
  everynode controller --create-qps 50`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; without it, the service account of the pod it runs in")
	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "work only while holding the lease kube-system/everynode-controller")
	f.Float64Var(&o.createQPS, "create-qps", 0, "most pods to create per second; 0: as fast as the API server takes them")
	f.BoolVar(&o.allowNewer, "allow-newer-server", false, "work on an API server more than one minor version newer; template fields that it added would be lost")
	f.IntVarP(&o.verbosity, "v", "v", 0, "0: what an operator should know; from 4 on: what the engine does in detail")
	return cmd
}

func run(ctx context.Context, o options, stderr io.Writer) error {
	if o.createQPS < 0 {
		return fmt.Errorf("--create-qps %g: must be 0 (no limit) or more", o.createQPS)
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	// The levels of slog are those of client-go's verbosity, negated.
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.Level(-o.verbosity)}))
	log.Info("starting", "server", client.Host, "leaderElect", o.leaderElect)
	return engine.Run(ctx, engine.Config{Client: client, LeaderElect: o.leaderElect, CreateQPS: o.createQPS,
		AllowNewerServer: o.allowNewer, Log: log})
}

// client is the connection that the flags ask for.
func (o options) client() (*rest.Config, error) {
	if o.kubeconfig != "" {
		c, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("reading --kubeconfig: %w", err)
		}
		return c, nil
	}
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no cluster to work on: this is not a pod with a service account, so give --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the pod's service account: %w", err)
	}
	return c, nil
}
