// Package verbs is the commands that need only an API server: audit, fleet, handover, plan, rollout, ui, watch and why.
// everynode has them, and so has the kubectl plugin, which is a small program without a control plane.
package verbs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/cli/console"
)

// Cluster is the cluster that the user means. Each program has its own way to choose it.
type Cluster interface {
	// AddFlags adds the flags that choose it to a command and its subcommands.
	AddFlags(c *cobra.Command)
	// Config is the client configuration for its API server.
	Config() (*rest.Config, error)
	// Namespace is the namespace of DaemonSets that are named without one.
	Namespace() (string, error)
	// Kubectl is the beginning of a command line that runs kubectl for this cluster.
	Kubectl() ([]string, error)
	// Flags are the flags that it was chosen by, for commands of this program and for kubectl. They have no secrets.
	Flags() (ours, kubectls []string)
	// EngineOff reports whether the cluster is known to run without the engine.
	EngineOff() bool
}

// access is the cluster with what the commands need: clients, and names for completion.
type access struct{ Cluster }

// Commands are the commands of this package, for one program.
func Commands(c *console.Console, cluster Cluster) []*cobra.Command {
	a := access{cluster}
	all := []*cobra.Command{auditCommand{c, a}.command(), fleetCommand{c, a}.command(), handoverCommand{c, a}.command(),
		planCommand{c, a}.command(), rolloutCommands{c, a}.command(), uiCommand{c, a}.command(), watchCommand{c, a}.command(),
		whyCommand{c, a}.command()}
	for _, one := range all {
		interruptible(one)
	}
	return all
}

// clusterFlag returns the name of a flag that was given and says which cluster to ask, or how; "" if there is none.
func clusterFlag(c *cobra.Command) (name string) {
	for _, flags := range []*pflag.FlagSet{c.PersistentFlags(), c.InheritedFlags()} {
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Changed {
				name = f.Name
			}
		})
	}
	return name
}

// client returns a client of the cluster.
func (a access) client() (kubernetes.Interface, error) {
	config, err := a.Config()
	if err != nil {
		return nil, err
	}
	return ForFleet(config)
}

// reach returns an error if the API server does not answer. Whether it lets the user read its version does not matter.
func (a access) reach(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	err = client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
	if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("ask the API server: %w", err)
	}
	return nil
}

// ForFleet returns a client without a rate limit, which uses the format that is fastest to decode.
func ForFleet(config *rest.Config) (kubernetes.Interface, error) {
	config.QPS = -1
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

// namespaceFlag adds --namespace to flags of the command. otherwise describes the namespaces without the flag.
func (a access) namespaceFlag(c *cobra.Command, flags *pflag.FlagSet, namespace *string, what, otherwise string) {
	flags.StringVarP(namespace, "namespace", "n", "", fmt.Sprintf("namespace of %s (default: %s)", what, otherwise))
	complete := func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(c, a.namespaces)
	}
	if err := c.RegisterFlagCompletionFunc("namespace", complete); err != nil {
		panic(err) // only if there is no such flag
	}
}

// current describes the namespace of DaemonSets that are named without one.
const current = `that of the kubeconfig's context, or "default"`

// orCurrent returns the given namespace, or the cluster's if it is "".
func (a access) orCurrent(namespace string) (string, error) {
	if namespace != "" {
		return namespace, nil
	}
	return a.Namespace()
}

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// complete returns the names that ask finds in time. It returns none if ask fails, because a shell cannot show an
// error.
func (a access) complete(c *cobra.Command, ask func(context.Context, kubernetes.Interface) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	client, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	names, err := ask(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a access) namespaces(ctx context.Context, client kubernetes.Interface) (names []string, err error) {
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}

// daemonSetNames returns the names in the namespace as users type them: after a kind and a slash if the word has one, or
// after another namespace and a slash.
func (a access) daemonSetNames(namespace, word string) func(context.Context, kubernetes.Interface) ([]string, error) {
	return func(ctx context.Context, client kubernetes.Interface) (names []string, err error) {
		prefix := ""
		if before, _, typed := strings.Cut(word, "/"); typed {
			n, err := readSetName(before+"/NAME", namespace)
			if err != nil {
				return nil, err
			}
			namespace, prefix = n.namespace, before+"/"
		}
		if namespace, err = a.orCurrent(namespace); err != nil {
			return nil, err
		}
		sets, err := client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range sets.Items {
			names = append(names, prefix+sets.Items[i].Name)
		}
		return names, nil
	}
}

func (a access) nodeNames(ctx context.Context, client kubernetes.Interface) (names []string, err error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}
