package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"everynode/internal/why"
)

// Connect finds the cluster of a kubeconfig; without a kubeconfig, the default one for the program's environment.
type Connect func(kubeconfig string) (*rest.Config, error)

// InCluster returns the cluster of a kubeconfig; without one, the cluster of the pod that this process runs in.
func InCluster(kubeconfig string) (*rest.Config, error) {
	return settings{Kubeconfig: kubeconfig}.client()
}

// NewHandover returns the command that prints what a controller without waves would do.
func NewHandover(connect Connect) *cobra.Command {
	check, mutation, kubeconfig, namespace, output := false, false, "", "", ""
	cmd := &cobra.Command{
		Use:   "handover --check",
		Short: "Say what Kubernetes' own controller would do if it took over now",
		Long: `Say what Kubernetes' own controller would do if it took over now.

It knows neither waves nor guards. If a release is under way, stopped or taken back, it would give the template to all nodes,
as many at a time as maxUnavailable says, and pods that the guard holds would go at once. The same is true of a template that
was changed while no engine ran; and nodes that missed a release would get it at once, although it is paused or no window is
open. DaemonSets of which nothing of that kind is true stay as they are, and are not listed.

Beside Kubernetes' own controller (--mode=assist) there is nothing to take over. Then this lists the DaemonSets that nobody
would update any more. With --on-delete it counts what the next apply of their manifests may update, once the admission policy
everynode-on-delete is removed as well.

It exits with 0 if no pod would move, with 1 if any would, or if it could not find out, and with 2 if the call is wrong. It
changes nothing.`,
		Example: `  everynode handover --check --kubeconfig ~/.kube/config
  everynode handover --check -n monitoring -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			err := cobra.NoArgs(cmd, args)
			if err == nil && !check {
				err = errors.New("give --check: to hand over, remove this controller and switch the other one on (docs/install.md)")
			}
			return WrongCall(cmd, err)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := connect(kubeconfig)
			if err != nil {
				return err
			}
			return handover(cmd.Context(), config, cmd.OutOrStdout(), namespace, mutation, output)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&check, "check", false, "only say what would happen")
	f.BoolVar(&mutation, "on-delete", false, "assume that the admission policy everynode-on-delete is removed as well")
	f.StringVar(&kubeconfig, "kubeconfig", "", "cluster to ask (default: the one that this runs in)")
	f.StringVarP(&namespace, "namespace", "n", "", "namespace of the DaemonSets (default: all)")
	f.VarP(&form{&output}, "output", "o", "json or yaml instead of a table")
	completeHandover(cmd, connect, &kubeconfig)
	return cmd
}

// completeHandover makes shells complete the values of --namespace and --output.
func completeHandover(cmd *cobra.Command, connect Connect, kubeconfig *string) {
	none := cobra.ShellCompDirectiveNoFileComp
	spaces := func(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		config, err := connect(*kubeconfig)
		if err != nil {
			return nil, none // a shell cannot show an error
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, none
		}
		list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, none
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names, none
	}
	for flag, complete := range map[string]cobra.CompletionFunc{"namespace": spaces, "output": cobra.FixedCompletions(forms(), none)} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // only if there is no such flag
		}
	}
}

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// form is the value of --output: one of forms, or empty.
type form struct{ to *string }

func forms() []string { return []string{"json", "yaml"} }

func (f *form) String() string { return *f.to }

// Set takes what the user typed.
func (f *form) Set(value string) error {
	if value != "" && !slices.Contains(forms(), value) {
		return errors.New("give json or yaml, or leave it out")
	}
	*f.to = value
	return nil
}

// Type is what --help shows for the value.
func (*form) Type() string { return "string" }

func handover(ctx context.Context, config *rest.Config, out io.Writer, namespace string, mutation bool, output string) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	all, err := why.Handovers(ctx, client, namespace, mutation, time.Now())
	if err != nil {
		return err
	}
	if err := printHandovers(out, all, output); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return why.NotYet(all)
}

func printHandovers(out io.Writer, all []why.Handover, output string) error {
	if output == "" {
		return why.PrintHandovers(out, all)
	}
	if all == nil {
		all = []why.Handover{}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil && output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(text))
	return err
}
