package verbs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
)

// auditFlags are the flags of `audit`.
type auditFlags struct {
	namespace, output      string
	current                string // the namespace of names without one
	ofCluster              string // a flag that was given and chooses the cluster
	allNamespaces, secrets bool
	files, reasons         []string
	severity, failOn       string
}

// Exit codes of `audit`, besides console.ExitOK.
const (
	exitFindings    = 1
	exitAuditFailed = 2 // so that callers can tell an error from a finding
)

// auditCommand is `audit`.
type auditCommand struct {
	*console.Console
	cluster access
}

func (cmd auditCommand) command() *cobra.Command {
	f := auditFlags{severity: audit.Low.String(), failOn: audit.High.String()}
	c := &cobra.Command{
		Use:   "audit [[NAMESPACE/]NAME...] | -f FILE",
		Short: "Say which DaemonSets one edit, label or release can take down, and why",
		Long: `Say which DaemonSets one edit, one label or one release can take down on every node, and
why, the worst first. It reads the DaemonSets, nodes, pods and ConfigMaps of any cluster, whoever
its DaemonSet controller is, and changes nothing. What it may not read it says, and goes on.
With -f it judges manifests, without a cluster.

` + namedAs + `

It exits with 0 if nothing that is shown is as bad as --fail-on says, with 1 if something is, and
with 2 if it could not do its work.`,
		Example: `  everynode audit                                     # all DaemonSets
  everynode audit --kubeconfig ~/.kube/config --severity high
  everynode audit monitoring/node-exporter -o wide    # what can come of it, and what to change
  everynode audit -n kube-system --reason HangsOnLabel,MutableConfig
  helm template agent ./chart | everynode audit -f - --fail-on medium`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cmd.complete(&f),
		RunE: func(c *cobra.Command, args []string) error {
			f.ofCluster = clusterFlag(c)
			return cmd.run(c.Context(), &f, args)
		},
	}
	cmd.cluster.AddFlags(c)
	flags := c.Flags()
	cmd.cluster.namespaceFlag(c, c.Flags(), &f.namespace, "the DaemonSets", "all; of a NAME without one, "+current)
	flags.BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "DaemonSets of all namespaces, also of a NAME without one")
	flags.StringSliceVarP(&f.files, "filename", "f", nil, "judge the manifests in these files (-: standard input), and ask no cluster")
	flags.StringSliceVar(&f.reasons, "reason", nil, "show only findings with these reasons, such as HangsOnLabel,MutableConfig")
	flags.BoolVar(&f.secrets, "read-secrets", false, "read the Secrets that pods mount, to know whether they are immutable; ConfigMaps are read always")
	var levels []string
	for _, s := range audit.Severities() {
		levels = append(levels, s.String())
	}
	flags.Var(console.OneOf(&f.severity, levels), "severity", "show findings of this severity and above: "+strings.Join(levels, ", "))
	levels = append([]string{never}, levels...)
	flags.Var(console.OneOf(&f.failOn, levels), "fail-on", "exit with 1 if a finding of this severity or above is shown: "+strings.Join(levels, ", "))
	console.OutputFlag(c, &f.output, "wide")
	for flag, words := range map[string][]string{"reason": auditReasons(), "severity": levels[1:], "fail-on": levels} {
		if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // only if there is no such flag
		}
	}
	return c
}

// never is the word for --fail-on that no severity reaches.
const never = "none"

func auditReasons() (names []string) {
	for _, r := range audit.Reasons() {
		names = append(names, r.String())
	}
	return names
}

func (cmd auditCommand) run(ctx context.Context, f *auditFlags, args []string) error {
	var err error
	if f.current, err = cmd.cluster.Namespace(); err != nil {
		return console.Failure(err, exitAuditFailed)
	}
	names, err := f.check(args)
	if err != nil {
		return err
	}
	in, notRead, err := cmd.input(ctx, f)
	if err != nil {
		return console.Failure(err, exitAuditFailed)
	}
	if err := selectNamed(in, names); err != nil {
		return console.Failure(err, exitAuditFailed)
	}
	report := newAuditReport(in, notRead)
	if len(f.files) > 0 {
		report.dropCommands()
	}
	for i := range report.Findings {
		x := &report.Findings[i]
		x.Commands = cmd.cluster.allTyped(cmd.Console, x.Commands)
	}
	report.Findings = slices.DeleteFunc(report.Findings, func(x audit.Finding) bool { return !f.wants(&x) })
	if err := cmd.print(f.output, report); err != nil {
		return console.Failure(err, exitAuditFailed)
	}
	if slices.ContainsFunc(report.Findings, f.fails) {
		return console.ExitStatus(exitFindings)
	}
	return nil
}

// input reads what to judge. notRead says what it could not read, a sentence
// each.
func (cmd auditCommand) input(ctx context.Context, f *auditFlags) (in *audit.Input, notRead []string, err error) {
	if len(f.files) > 0 {
		in, err = cmd.readManifests(ctx, f.files)
		return in, nil, err
	}
	r, err := newAuditReader(cmd.cluster, f)
	if err != nil {
		return nil, nil, err
	}
	if err := r.read(ctx); err != nil {
		return nil, nil, err
	}
	r.in.Now = time.Now()
	return &r.in, r.notRead, nil
}

// check refuses flags that contradict each other, and parses the names.
func (f *auditFlags) check(args []string) (names []setName, err error) {
	switch {
	case f.allNamespaces && f.namespace != "":
		return nil, console.Usage(fmt.Errorf("--all-namespaces and --namespace exclude each other"))
	case len(f.files) > 0 && f.ofCluster != "":
		return nil, console.Usage(fmt.Errorf("--filename and --%s exclude each other: manifests are judged without a cluster", f.ofCluster))
	case len(f.files) > 0 && f.secrets:
		return nil, console.Usage(fmt.Errorf("--filename and --read-secrets exclude each other: manifests are judged without a cluster"))
	}
	if err := asKnown("reason", f.reasons, auditReasons()); err != nil {
		return nil, err
	}
	for _, arg := range args {
		n, err := readSetName(arg, f.namespace)
		if err != nil {
			return nil, err
		}
		if n.namespace == "" && !f.allNamespaces {
			n.namespace = f.current
		}
		names = append(names, n)
	}
	return names, nil
}

// selectNamed keeps the DaemonSets with these names. It is an error if one does
// not exist. Without names it keeps all.
func selectNamed(in *audit.Input, names []setName) error {
	var known []string
	for i := range in.DaemonSets {
		known = append(known, in.DaemonSets[i].Name)
	}
	for _, n := range names {
		if !slices.ContainsFunc(in.DaemonSets, func(ds appsv1.DaemonSet) bool { return n.is(&ds) }) {
			return fmt.Errorf("no DaemonSet %s among the %d that are judged%s", n, len(known), console.DidYouMean(n.name, known))
		}
	}
	if len(names) > 0 {
		in.DaemonSets = slices.DeleteFunc(in.DaemonSets, func(ds appsv1.DaemonSet) bool {
			return !slices.ContainsFunc(names, func(n setName) bool { return n.is(&ds) })
		})
	}
	return nil
}

// wants reports whether to show the finding.
func (f *auditFlags) wants(x *audit.Finding) bool {
	return x.Severity >= severityOf(f.severity) && (len(f.reasons) == 0 || slices.Contains(f.reasons, x.Reason.String()))
}

// fails reports whether the finding makes the exit code 1.
func (f *auditFlags) fails(x audit.Finding) bool {
	return f.failOn != never && x.Severity >= severityOf(f.failOn)
}

func severityOf(name string) audit.Severity {
	all := audit.Severities()
	return all[slices.IndexFunc(all, func(s audit.Severity) bool { return s.String() == name })]
}
