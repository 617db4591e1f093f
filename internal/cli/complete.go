package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane/admission"
)

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// offer returns the names that are not among the arguments yet.
func offer(names, args []string) ([]string, cobra.ShellCompDirective) {
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes the names of the nodes of this machine.
func (t *target) completeNodes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return offer(t.localNodes(), args)
}

func (t *target) localNodes() (names []string) {
	m, err := t.open()
	if err != nil {
		return nil // a shell cannot show an error
	}
	for _, n := range m.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// completeLocalAndSimulated completes the names of those and of simulated nodes.
func (t *target) completeLocalAndSimulated(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := t.localNodes()
	if _, simulates, err := localcluster.ReadRules(t.dataDir); err == nil && simulates {
		names = append(names, t.asked(c, simulatedNames)...)
	}
	return offer(names, args)
}

// completeAllNodes completes the name of a node, wherever its machine is.
func (t *target) completeAllNodes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return offer(t.asked(c, allNames), args)
}

// completeTokens completes the IDs of tokens.
func (t *target) completeTokens(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return offer(t.asked(c, tokenIDs), args)
}

// completeClusters completes the names of clusters.
func completeClusters(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
	rows, err := localcluster.Rows(localcluster.Dirs(nil))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, r := range rows {
		names = append(names, r.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// asked returns the names that ask finds in the cluster in time; none if it fails.
func (t *target) asked(c *cobra.Command, ask func(context.Context, kubernetes.Interface) ([]string, error)) []string {
	client, err := localcluster.FleetClient(t.dataDir)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	names, err := ask(ctx, client)
	if err != nil {
		return nil
	}
	return names
}

func simulatedNames(ctx context.Context, client kubernetes.Interface) (names []string, err error) {
	nodes, err := localcluster.ListSimulated(client)(ctx)
	for i := range nodes {
		names = append(names, nodes[i].Name)
	}
	return names, err
}

func allNames(ctx context.Context, client kubernetes.Interface) (names []string, err error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}

func tokenIDs(ctx context.Context, client kubernetes.Interface) (ids []string, err error) {
	tokens, err := admission.ListTokens(ctx, client)
	for _, token := range tokens {
		ids = append(ids, token.ID)
	}
	return ids, err
}
