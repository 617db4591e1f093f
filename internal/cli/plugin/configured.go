package plugin

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec and OIDC credentials in kubeconfigs
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd/api"
)

// configured is the cluster that kubectl would use: by its flags, KUBECONFIG, and the current context.
type configured struct {
	flags *genericclioptions.ConfigFlags
	given *pflag.FlagSet // the set that they were parsed in
}

func newConfigured() *configured {
	flags := genericclioptions.NewConfigFlags(true)
	flags.Namespace = nil // each command has its own, whose help says which namespaces it uses without it
	flags.CacheDir = nil  // nothing is cached
	return &configured{flags: flags}
}

// addTo adds kubectl's flags to the root. Help texts leave out the rare ones.
func (f *configured) addTo(root *cobra.Command) {
	flags := root.PersistentFlags()
	f.given = pflag.NewFlagSet(root.Name(), pflag.ContinueOnError)
	f.flags.AddFlags(f.given)
	usual := []string{"kubeconfig", "context", "cluster", "user", "as", "request-timeout"}
	f.given.VisitAll(func(flag *pflag.Flag) { flag.Hidden = !slices.Contains(usual, flag.Name) })
	flags.AddFlagSet(f.given)
	for name, names := range map[string]func(*api.Config) []string{
		"context": func(c *api.Config) []string { return slices.Sorted(maps.Keys(c.Contexts)) },
		"cluster": func(c *api.Config) []string { return slices.Sorted(maps.Keys(c.Clusters)) },
		"user":    func(c *api.Config) []string { return slices.Sorted(maps.Keys(c.AuthInfos)) },
	} {
		if err := root.RegisterFlagCompletionFunc(name, f.complete(names)); err != nil {
			panic(err) // only if there is no such flag
		}
	}
}

// AddFlags adds nothing: the flags are the root's.
func (*configured) AddFlags(*cobra.Command) {}

// Config is the client configuration for the API server.
func (f *configured) Config() (*rest.Config, error) {
	loader := f.flags.ToRawKubeConfigLoader()
	// Without a cluster the loader uses a port of this machine, which nobody has asked for.
	if raw, err := loader.RawConfig(); err == nil && api.IsConfigEmpty(&raw) && !f.given.Changed("server") {
		return nil, errors.New("no cluster is configured: give --kubeconfig or set KUBECONFIG, as for kubectl")
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return rest.CopyConfig(config), nil // callers change it, and the loader keeps it
}

// Namespace is the namespace of the context.
func (f *configured) Namespace() (string, error) {
	namespace, _, err := f.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", fmt.Errorf("read the namespace of the kubeconfig's context: %w", err)
	}
	return namespace, nil
}

// Kubectl is the kubectl in the path, with the flags that this program was given. Secrets are not put on a command
// line, which others can read.
func (f *configured) Kubectl() ([]string, error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, fmt.Errorf("this asks the API server as `kubectl apply --dry-run=server` does, so kubectl must be in the path: %w", err)
	}
	if f.given.Changed("token") {
		return nil, errors.New("--token would be on the command line of kubectl, which this asks, and all users of this machine can read those: put it into a kubeconfig, and give --kubeconfig")
	}
	flags, _ := f.Flags()
	return append([]string{kubectl}, flags...), nil
}

// Flags are the flags of kubectl that were given, but for a token: what is printed with it is shown to others.
func (f *configured) Flags() (ours, kubectls []string) {
	f.given.VisitAll(func(flag *pflag.Flag) {
		if !flag.Changed || flag.Name == "token" {
			return
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			ours = append(ours, "--"+flag.Name+"="+value)
		}
	})
	return ours, ours
}

// EngineOff reports false: whether the engine is off is not known for other clusters.
func (*configured) EngineOff() bool { return false }

// complete completes names of the kubeconfig.
func (f *configured) complete(names func(*api.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		config, err := f.flags.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp // a shell has no place for an error
		}
		return names(&config), cobra.ShellCompDirectiveNoFileComp
	}
}
