package verbs

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
)

// maxAllowTime is the longest time that removals can be allowed for. Users who need more ask again.
const maxAllowTime = 24 * time.Hour

func (cmd rolloutCommands) allowCommand(f *rolloutFlags) *cobra.Command {
	nodes, lasts := 0, time.Duration(0)
	c := &cobra.Command{
		Use:   "allow ds/NAME",
		Short: "Let pods go that the policy's guard holds",
		Long: `Let pods go that the policy's guard holds.

When an edit of node labels or of the template's placement would take away more pods than the policy's
guard.removals, all of them stay until somebody puts the edit back or allows it. What is allowed is a number of
nodes, for a time: more than that waits again.`,
		Example: `  everynode rollout allow ds/agent -n monitoring                       # as many as are held now
  everynode rollout allow ds/agent -n monitoring --nodes 300 --for 2h  # ahead of taking a pool away`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cmd.complete(f),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case c.Flags().Changed("nodes") && nodes < 1:
				return console.Usage(fmt.Errorf("--nodes %d: give at least 1", nodes))
			case lasts < time.Minute || lasts > maxAllowTime:
				return console.Usage(fmt.Errorf("--for %s: give from 1m to %s", lasts, maxAllowTime))
			}
			t, err := cmd.target(f, args[0])
			if err != nil {
				return err
			}
			before := time.Now().Add(lasts)
			return t.ask(c.Context(), func(r *release) (request, error) { return r.allow(nodes, before) }, f.wait)
		},
	}
	flags := c.Flags()
	flags.IntVar(&nodes, "nodes", 0, "how many nodes may lose their pods (default: as many as are held now)")
	flags.DurationVar(&lasts, "for", time.Hour, "how long that is allowed")
	flags.BoolVar(&f.wait, "wait", true, fmt.Sprintf("wait up to %s until the engine has acted on it, and say what became of it", answerTime))
	return c
}

// held is how many nodes would lose their pods without the guard.
func (r *release) held() int {
	if r.Status.Guard == nil {
		return 0
	}
	return r.Status.Guard.Held
}

// allow lets so many nodes lose their pods; 0 means as many as are held.
func (r *release) allow(nodes int, before time.Time) (request, error) {
	held := r.held()
	switch {
	case nodes == 0 && held == 0:
		return request{}, errors.New("the guard holds nothing, so there is nothing to allow; to allow an edit that is still to come, give its size by --nodes")
	case nodes == 0:
		nodes = held
	case nodes < held:
		return request{}, fmt.Errorf("--nodes %d: the guard holds the pods of %d nodes, and lets all of them go or none: give at least that, or put some of the edit back", nodes, held)
	}
	stamp := before.UTC().Format(time.RFC3339)
	return request{map[string]any{"allowRemovals": map[string]any{"nodes": nodes, "before": stamp}},
		fmt.Sprintf("labels and the placement may take the pods of %s away until %s", console.Counted(nodes, "node"), stamp)}, nil
}
