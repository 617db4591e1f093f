package cli

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/cobra"

	"everynode/internal/cli/localcluster"
)

// What chose the cluster is told to commands of this program and to kubectl, whichever command was given the flags.
func TestOwnClusterFlags(t *testing.T) {
	staging := localcluster.AdminKubeconfig(localcluster.NamedDir("staging"))
	for _, c := range []struct{ args, ours, kubectls []string }{
		{nil, nil, nil},
		{[]string{"--kubeconfig", "a"}, []string{"--kubeconfig=a"}, []string{"--kubeconfig=a"}},
		{[]string{"--name", "staging"}, []string{"--name=staging"}, []string{"--kubeconfig=" + staging}},
		{[]string{"--data-dir=/data"}, []string{"--data-dir=/data"}, []string{"--kubeconfig=" + filepath.Join("/data", "admin.kubeconfig")}},
		{[]string{"--data-dir=/data", "--kubeconfig=a"}, []string{"--kubeconfig=a", "--data-dir=/data"}, []string{"--kubeconfig=a"}},
	} {
		own := &ownCluster{cluster: &target{}}
		root := &cobra.Command{Use: "everynode"}
		for _, name := range []string{"why", "watch"} {
			sub := &cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}}
			own.AddFlags(sub)
			root.AddCommand(sub)
		}
		root.SetArgs(append([]string{"watch"}, c.args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ours, kubectls := own.Flags(); !slices.Equal(ours, c.ours) || !slices.Equal(kubectls, c.kubectls) {
			t.Errorf("%q: %q and %q, want %q and %q", c.args, ours, kubectls, c.ours, c.kubectls)
		}
	}
}
