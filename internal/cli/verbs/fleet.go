package verbs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// fleetRow is a DaemonSet that follows a policy.
type fleetRow struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Phase     string `json:"phase"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	Release   int    `json:"release"`
	Stable    string `json:"stable,omitempty"`
	Target    string `json:"target,omitempty"`
	Wave      string `json:"wave,omitempty"`
	Group     string `json:"group,omitempty"`
	Paused    bool   `json:"paused,omitempty"`
	Held      int    `json:"held,omitempty"` // nodes whose pods the guard keeps

	Nodes view.RolloutNodes `json:"nodes"`
}

// noAnswer is the phase of a DaemonSet that no engine has reported on.
const noAnswer = "Unknown"

// fleetCommand is `fleet`.
type fleetCommand struct {
	*console.Console
	cluster access
}

func (cmd fleetCommand) command() *cobra.Command {
	f := &rolloutFlags{}
	c := &cobra.Command{
		Use:   "fleet",
		Short: "Show every DaemonSet that follows a RolloutPolicy, and where its release is",
		Long: "Show every DaemonSet that follows a RolloutPolicy, and where its release is: the worst first, and those that are finished last. " +
			"Beside the phase stands whether it is paused, why the next release will be held, and how many pods the policy's guard holds.",
		Example: `  everynode fleet
  everynode fleet -n monitoring -o wide      # also what each waits for
  everynode fleet --kubeconfig ~/.kube/config -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			rows, err := cmd.rows(c.Context(), f)
			if err != nil {
				return err
			}
			output, wide := formOf(f.output)
			return cmd.Print(output, rows, func() error { return cmd.print(rows, wide) })
		},
	}
	cmd.cluster.AddFlags(c)
	cmd.cluster.namespaceFlag(c, c.Flags(), &f.namespace, "the DaemonSets", "all")
	console.OutputFlag(c, &f.output, "wide")
	return c
}

func (cmd fleetCommand) rows(ctx context.Context, f *rolloutFlags) ([]fleetRow, error) {
	kinds, err := cmd.cluster.kinds()
	if err != nil {
		return nil, err
	}
	list, err := kinds.rollouts.Namespace(f.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, readError(err)
	}
	rows := make([]fleetRow, 0, len(list.Items))
	for i := range list.Items {
		var o view.DaemonSetRollout
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &o); err != nil {
			return nil, fmt.Errorf("the DaemonSetRollout %s/%s cannot be read: %w", list.Items[i].GetNamespace(), list.Items[i].GetName(), err)
		}
		rows = append(rows, rowOf(&o))
	}
	slices.SortFunc(rows, worse)
	return rows, nil
}

func rowOf(o *view.DaemonSetRollout) fleetRow {
	s := &o.Status
	r := fleetRow{Namespace: o.Namespace, Name: o.Name, Phase: cmp.Or(s.Phase, noAnswer), Reason: s.Reason, Message: s.Message, Release: s.Release,
		Stable: s.Stable, Target: s.Target, Paused: o.Spec.Paused, Nodes: s.Nodes}
	if s.Guard != nil {
		r.Held = s.Guard.Held
	}
	if s.Wave != nil {
		r.Wave, r.Group = s.Wave.Name, s.Wave.Group
	}
	return r
}

// nextHeld reports whether no release is under way, and the next one will be held, since there is no policy to follow.
func (r *fleetRow) nextHeld() bool {
	why, _ := rollout.ReasonOf(r.Reason)
	return r.Phase == rollout.Idle.String() && why.OfPolicy()
}

// worse orders first what a person should look at first. A phase that this version does not know is among that, and
// so is a guard that holds pods, whatever the phase. A policy that will hold the next release is among what waits.
func worse(a, b fleetRow) int {
	order := []string{}
	for _, p := range []rollout.Phase{rollout.Halted, rollout.Held, rollout.RollingBack, rollout.Aborted, rollout.Waiting, rollout.Paused, rollout.Rolling, rollout.Soaking, rollout.Idle} {
		order = append(order, p.String())
	}
	place := func(r *fleetRow) int {
		at := slices.Index(order, r.Phase)
		switch {
		case r.Held > 0:
			at = min(at, slices.Index(order, rollout.Held.String()))
		case r.nextHeld():
			at = min(at, slices.Index(order, rollout.Waiting.String()))
		}
		return at
	}
	return cmp.Or(cmp.Compare(place(&a), place(&b)), cmp.Compare(b.Nodes.Failed, a.Nodes.Failed),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func (cmd fleetCommand) print(rows []fleetRow, wide bool) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(cmd.Out, "no engine has told of a release: no DaemonSet follows a RolloutPolicy, or the engine does not run; see docs/safe-releases.md")
		return err
	}
	header := []string{"NAMESPACE", "NAME", "PHASE", "STABLE", "TARGET", "WAVE", "EXPOSED", "FAILED"}
	if wide {
		header = append(header, "HELD", "MESSAGE")
	}
	t := console.NewTable(cmd.Out, header...)
	for i := range rows {
		r := &rows[i]
		phase := r.Phase
		if r.Paused && phase != rollout.Paused.String() {
			phase += ",paused"
		}
		if r.nextHeld() {
			phase += "," + r.Reason
		}
		if r.Held > 0 {
			phase += fmt.Sprintf(",%d held", r.Held)
		}
		cells := []string{r.Namespace, r.Name, phase, console.OrNone(r.Stable), console.OrNone(r.Target), console.OrNone(strings.Trim(r.Wave+"/"+r.Group, "/")),
			fmt.Sprintf("%d/%d", r.Nodes.Exposed, r.Nodes.Eligible), fmt.Sprint(r.Nodes.Failed)}
		if wide {
			cells = append(cells, fmt.Sprint(r.Held), r.Message)
		}
		t.Row(cells...)
	}
	return t.Flush()
}
