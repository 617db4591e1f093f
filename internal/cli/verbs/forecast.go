package verbs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
	"everynode/internal/forecast"
	"everynode/internal/plan"
)

// forecastFlags are the flags of `plan`.
type forecastFlags struct {
	namespace, output string
	policy            string
	files             []string
	start, stop       *time.Duration // nil: not given
	serverSide        bool
}

// planCommand is `plan`.
type planCommand struct {
	*console.Console
	cluster access
}

func (cmd planCommand) command() *cobra.Command {
	f, start, stop := forecastFlags{}, time.Duration(0), time.Duration(0)
	c := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Say what a change of a DaemonSet would do, node by node, before it is made",
		Long: `Say which nodes would get, lose or replace a pod if the DaemonSets in these files were applied,
in which order, and how long that would take by what these pods took so far. The API server
checks the change as 'kubectl apply --dry-run=server' does; then the algorithm that the engine
runs is played on it, with the nodes and pods that there are. Nothing is changed, on any cluster,
whoever its DaemonSet controller is.

Pods are taken to start as they did until now: whether the new version works is not known. How
long they take to end is not known either: the first figure takes them to end at once, the second
to need all of their grace period. What controllers other than everynode's do is the same by the
rules of apps/v1, but for the order of the nodes.`,
		Example: `  everynode plan -f agent.yaml
  everynode plan -f agent.yaml -o wide                     # a line for each node
  helm template agent ./chart | everynode plan -f - --kubeconfig ~/.kube/config
  everynode plan -f agent.yaml --start 90s                 # images have to be pulled first
  everynode plan -f agent.yaml --policy policy.yaml        # in which waves a policy would do it`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("start") {
				f.start = &start
			}
			if c.Flags().Changed("stop") {
				f.stop = &stop
			}
			if err := f.check(); err != nil {
				return err
			}
			return cmd.run(c.Context(), &f)
		},
	}
	cmd.cluster.AddFlags(c)
	flags := c.Flags()
	flags.StringSliceVarP(&f.files, "filename", "f", nil, "files with DaemonSets, as they are to be (-: standard input); other kinds in them are left out")
	cmd.cluster.namespaceFlag(c, c.Flags(), &f.namespace, "DaemonSets that name none", current)
	flags.BoolVar(&f.serverSide, "server-side", false, "as 'kubectl apply --server-side' would change it")
	flags.DurationVar(&start, "start", 0, "how long a pod takes until it is ready (default: as those that there are, else 10s)")
	flags.DurationVar(&stop, "stop", 0, "how long a deleted pod takes to end (default: at once in the first figure, its grace period in the second)")
	flags.StringVar(&f.policy, "policy", "", "file with a RolloutPolicy: say in which waves it would release the change, which nodes come first, and how long it takes (default: the policy of the cluster that the DaemonSet follows)")
	console.OutputFlag(c, &f.output, "wide")
	if err := c.MarkFlagRequired("filename"); err != nil {
		panic(err) // only if there is no such flag
	}
	return c
}

func (f *forecastFlags) check() error {
	for flag, given := range map[string]*time.Duration{"start": f.start, "stop": f.stop} {
		if given != nil && *given < 0 {
			return console.Usage(fmt.Errorf("--%s %s: give a time that is not negative", flag, *given))
		}
	}
	if f.policy == "-" && slices.Contains(f.files, "-") {
		return console.Usage(errors.New("-f - and --policy - both read standard input: give one of them as a file"))
	}
	return nil
}

func (cmd planCommand) run(ctx context.Context, f *forecastFlags) error {
	manifests, err := cmd.daemonSetsOf(ctx, f.files)
	if err != nil {
		return err
	}
	policy, err := readPolicy(console.Until(ctx, cmd.In), f.policy)
	if err != nil {
		return err
	}
	sets, err := cmd.dryRun(ctx, f, manifests)
	if err != nil {
		return err
	}
	r, err := newAuditReader(cmd.cluster, &auditFlags{})
	if err != nil {
		return err
	}
	w, err := readForecastWorld(ctx, r, sets)
	if err != nil {
		return err
	}
	report := forecastReport{DaemonSets: []setForecast{}, NotRead: w.notRead()}
	for i := range sets {
		s, err := w.forecast(&sets[i], f, policy)
		if err != nil {
			return err
		}
		report.DaemonSets = append(report.DaemonSets, *s)
	}
	return cmd.print(f.output, &report)
}

// forecastReport is what `plan` prints.
type forecastReport struct {
	DaemonSets []setForecast `json:"daemonSets"`
	// NotRead says what is not known, a sentence each.
	NotRead []string `json:"notRead,omitempty"`
}

// setForecast is what a change of one DaemonSet does.
type setForecast struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Exists is whether the cluster has the DaemonSet.
	Exists bool `json:"exists"`
	// Nodes counts the nodes by what happens to their pod: replaced, new, removed.
	Nodes map[forecast.Change]int `json:"nodes"`
	// MostDown is how many of the nodes that serve now are down together at the worst moment.
	MostDown int `json:"mostDown"`
	// AtLeast and AtMost are how long it takes, in seconds: AtLeast if pods end at once, AtMost if they need all of
	// their grace period. If the change goes in the waves of a policy, it is until the last of them has ended.
	AtLeast float64 `json:"atLeastSeconds"`
	AtMost  float64 `json:"atMostSeconds"`
	// Start is how long a pod is assumed to take until it is ready, in seconds. StartOf is how many pods that was
	// measured on; 0 if it was given or is a guess.
	Start    float64           `json:"startSeconds"`
	StartOf  int               `json:"startOf"`
	Steps    []forecastStep    `json:"steps"`
	Left     []forecastLeft    `json:"left,omitempty"`
	Warnings []forecastWarning `json:"warnings,omitempty"`
	// inWaves means that these times are those of the waves.
	inWaves bool
	// Policy is what happens by the given policy, or by the one that the DaemonSet follows.
	Policy *policyForecast `json:"policy,omitempty"`
}

// forecastStep is what happens on a node. Begins and Ends are seconds since the change.
type forecastStep struct {
	Node   string          `json:"node"`
	Change forecast.Change `json:"change"`
	Reason string          `json:"reason"`
	Detail string          `json:"detail,omitempty"`
	Begins float64         `json:"begins"`
	Ends   *float64        `json:"ends,omitempty"`
}

// forecastLeft is a node that does not have what it should at the end.
type forecastLeft struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
	Why    string `json:"why"`
}

// forecastWarning is what users should know before the change. Its reasons are those of `audit`, and the constants
// warn... of this package.
type forecastWarning struct {
	Reason string `json:"reason"`
	Text   string `json:"text"`
}

// Warnings of `plan` besides the findings of `audit`.
const (
	warnRemovesPods = "RemovesPods"
	warnNotFinished = "NotFinished"
	warnHelmTimeout = "LongerThanHelm"
	warnNotAsked    = "AdmissionNotAsked"
)

// helmTimeout is how long Helm waits by default.
const helmTimeout = 5 * time.Minute

// auditWarnings returns the findings of `audit` about the change, but not those about the DaemonSet as it is anyway.
func auditWarnings(findings []audit.Finding) (warnings []forecastWarning) {
	about := []audit.Reason{audit.InvalidSpec, audit.UpdateAllAtOnce, audit.UpdateManyAtOnce, audit.NoReadinessProbe,
		audit.SurgeWithHostPorts, audit.NoHistory, audit.MatchesNoNode, audit.TaintsKeepOff, audit.MutableConfig}
	for _, x := range findings {
		if slices.Contains(about, x.Reason) && x.Severity > audit.Low {
			warnings = append(warnings, forecastWarning{x.Reason.String(), x.Text})
		}
	}
	return warnings
}

// playWarnings returns warnings about the course of the change. In fast pods end at once, in slow they need all of
// their grace period.
func playWarnings(fast, slow *course) (warnings []forecastWarning) {
	warn := func(reason, format string, args ...any) {
		warnings = append(warnings, forecastWarning{reason, fmt.Sprintf(format, args...)})
	}
	if n := fast.Count(forecast.Loses); n > 0 {
		warn(warnRemovesPods, "%s would lose the pod%s at once: maxUnavailable does not hold that back", console.Counted(n, "node"), fast.together)
	}
	left := len(fast.Left)
	if fast.held() { // which is a warning of its own, also of the nodes that wait for it
		left = len(slices.DeleteFunc(slices.Clone(fast.Left), func(l forecast.Left) bool { return l.Reason == plan.HeldByGuard || l.Reason == plan.AwaitsWave }))
	}
	switch {
	case fast.Endless:
		warn(warnNotFinished, "no end was found: pods would be made and deleted again and again")
	case left > 0 && fast.strategy == plan.OnDelete:
		warn(warnNotFinished, "the strategy is OnDelete: %s would keep the older pod until somebody deletes it", console.Counted(left, "node"))
	case left > 0:
		warn(warnNotFinished, "%s would not get there by itself, see below", console.Counted(left, "node"))
	}
	if slices.ContainsFunc(fast.Steps, func(s forecast.Step) bool { return s.Reason == plan.OutdatedInPlace }) {
		warn(warnNotAsked, "pods are changed where they run only if the API server would let in a new one as it is, which is not asked here: else they are deleted")
	}
	if slow.Took > helmTimeout && !fast.held() {
		warn(warnHelmTimeout, "`helm upgrade --wait` gives up after %s: give it --timeout %s", helmTimeout, (slow.Took + helmTimeout).Round(time.Minute))
	}
	return warnings
}
