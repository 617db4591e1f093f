// Package command is the command line of the DaemonSet engine alone. The everynode
// binary has it as `everynode controller`; everynode-controller has nothing else.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"everynode/internal/engine"
	"everynode/internal/view"
)

// New returns the command `controller`. It runs the engine until its context ends.
func New() *cobra.Command {
	s, config := defaults(), ""
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the DaemonSet engine alone, against any Kubernetes API server",
		Long: `Run the DaemonSet engine alone, against any Kubernetes API server.

It replaces the DaemonSet controller in kube-controller-manager. Switch that one
off first: append -daemonset-controller to its --controllers. While another
controller is active this one refuses to work, since two controllers delete each
other's pods.

It takes over the existing pods, and can hand them back in the same way: no pod
restarts, in either direction.`,
		Example: `  # From a machine that has a kubeconfig
  everynode controller --kubeconfig ~/.kube/config

  # In a pod, several replicas, one of which leads
  everynode controller

  # With settings from a file; flags win over it
  everynode controller --config controller.yaml --v 4

  # Beside the DaemonSet controller of a managed cluster (docs/managed.md)
  everynode controller --mode assist

  # At most 50 new pods a second, for a registry that cannot take more
  everynode controller --create-qps 50`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config != "" {
				if err := s.load(config, cmd.Flags()); err != nil {
					return err
				}
			}
			if err := s.check(); err != nil {
				return WrongCall(cmd, err)
			}
			return s.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "file with settings (docs/controller.md); flags win over it")
	s.bind(f)
	for flag, words := range map[string][]string{"mode": modes(), "bind-by": Binders(), "log-format": logFormats()} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // only if there is no such flag
		}
	}
	return cmd
}

// run serves the endpoints and runs the engine until ctx ends.
func (s settings) run(ctx context.Context, stderr io.Writer) error {
	limit := tuneMemory(rootFS(), os.Getenv)
	client, err := s.client()
	if err != nil {
		return err
	}
	log := s.logger(stderr)
	klog.SetSlogLogger(log) // for what client-go logs without a logger of ours
	monitor := engine.NewMonitor()
	endpoints, err := s.listen(ctx, client, monitor, log)
	if err != nil {
		return err
	}
	log.Info("starting", "mode", s.Mode, "server", client.Host, "leaderElect", s.LeaderElect, "metrics", s.MetricsBindAddress, "memoryLimit", limit)
	err = endpoints.during(ctx, func(ctx context.Context) error {
		return engine.Run(ctx, engine.Config{Client: client, LeaderElect: s.LeaderElect, CreateQPS: s.CreateQPS, BindBy: view.Binder(s.BindBy),
			AllowNewerServer: s.AllowNewerServer, Assist: s.Mode == assists, Alone: s.Mode == inCharge && !s.AllowOtherController, Monitor: monitor, Log: log})
	})
	if err != nil && s.LogFormat == "json" {
		log.Error("stopped", "err", err) // the command prints the error, too, but not as JSON
	}
	return err
}

// logger logs to stderr. The levels of slog are client-go's verbosity levels, negated.
func (s settings) logger(stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.Level(-s.Verbosity)}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// client returns the connection that the flags ask for.
func (s settings) client() (*rest.Config, error) {
	if s.Kubeconfig != "" {
		return fromKubeconfig(s.Kubeconfig)
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
