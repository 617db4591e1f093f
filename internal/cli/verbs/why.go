package verbs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/plan"
	"everynode/internal/why"
)

// whyFlags are the flags of `why`.
type whyFlags struct {
	namespace, output string
	reasons           []string
	notOK             bool
}

// whyCommand is `why`.
type whyCommand struct {
	*console.Console
	cluster access
}

func (cmd whyCommand) command() *cobra.Command {
	f := whyFlags{}
	c := &cobra.Command{
		Use:   "why NODE [DAEMONSET] | ds/NAME",
		Short: "Say why a node has a DaemonSet's pod, or has none",
		Long: `Say, for each DaemonSet on a node or for each node of a DaemonSet, what runs there or
why nothing does, since when, and (with -o wide) what would change it. It asks the same
algorithm that the engine runs, with what the API server says now and what kubelets,
scheduler and engine have told, and changes nothing. What is held up comes first.

` + namedAs + `
A NAME alone that comes first is a node's.`,
		Example: `  everynode why node-2                      # every DaemonSet, on this node
  everynode why node-2 audit-agent
  everynode why node-2 kube-system/fluent-bit
  everynode why daemonset/audit-agent --not-ok -o wide
  everynode why daemonset/audit-agent --reason NotReady,BudgetSpent
  everynode why node-2 -n kube-system -o json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: cmd.complete(&f),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := newQuestion(args, f.namespace)
			if err == nil {
				err = f.check()
			}
			if err == nil && q.DaemonSet != "" {
				q.Namespace, err = cmd.cluster.orCurrent(q.Namespace)
			}
			if err != nil {
				return err
			}
			client, err := cmd.cluster.client()
			if err != nil {
				return err
			}
			q.EngineOff = cmd.cluster.EngineOff()
			answer, err := why.Ask(c.Context(), client, q, time.Now())
			if err != nil {
				return err
			}
			cmd.typeIn(answer)
			answer.Rows = slices.DeleteFunc(answer.Rows, func(r why.Row) bool { return !f.wants(&r) })
			return cmd.print(f.output, q, answer)
		},
	}
	cmd.cluster.AddFlags(c)
	cmd.cluster.namespaceFlag(c, c.Flags(), &f.namespace, "the DaemonSets", "all for a node; for a DaemonSet, "+current)
	c.Flags().StringSliceVar(&f.reasons, "reason", nil, "show only rows with these reasons, such as NotReady,BudgetSpent")
	c.Flags().BoolVar(&f.notOK, "not-ok", false, "leave out nodes that have what they should")
	console.OutputFlag(c, &f.output, "wide")
	if err := c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasonNames(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // only if there is no such flag
	}
	return c
}

func reasonNames() (names []string) {
	for _, r := range plan.Reasons() {
		names = append(names, r.String())
	}
	return names
}

// check refuses unknown reasons, and corrects upper and lower case in the others.
func (f *whyFlags) check() error { return asKnown("reason", f.reasons, reasonNames()) }

// asKnown refuses a flag's words that are not known, and corrects upper and lower case
// in the others.
func asKnown(flag string, given, known []string) error {
	for i, word := range given {
		at := slices.IndexFunc(known, func(name string) bool { return strings.EqualFold(name, word) })
		if at < 0 {
			return console.Usage(fmt.Errorf("--%s %s: there is no such %s%s", flag, word, flag, console.DidYouMean(word, known)))
		}
		given[i] = known[at]
	}
	return nil
}

// wants reports whether to show the row.
func (f *whyFlags) wants(r *why.Row) bool {
	return (len(f.reasons) == 0 || slices.Contains(f.reasons, r.Reason)) && !(f.notOK && r.OK)
}

// newQuestion reads what to ask about. An empty name, which means all to package why, is refused: whoever types one, as
// scripts do with an empty variable, means something else.
func newQuestion(args []string, namespace string) (why.Question, error) {
	q, set := why.Question{Namespace: namespace}, args[0]
	if kind, name, typed := strings.Cut(args[0], "/"); !typed || isNodes(kind) {
		if q.Node = name; !typed {
			q.Node = args[0]
		}
		if q.Node == "" || strings.Contains(q.Node, "/") {
			return q, console.Usage(fmt.Errorf("%q does not name a node: give NODE [DAEMONSET], or ds/NAME", args[0]))
		}
		if len(args) == 1 {
			return q, nil
		}
		set = args[1]
	} else if len(args) == 2 {
		return q, console.Usage(fmt.Errorf("%s %s: give NODE [DAEMONSET], or ds/NAME alone", args[0], args[1]))
	}
	n, err := readSetName(set, namespace)
	q.Namespace, q.DaemonSet = n.namespace, n.name
	return q, err
}

// isNodes reports whether the word before a slash is one for nodes, and not a namespace.
func isNodes(word string) bool { return word == "node" || word == "nodes" }

// complete completes a node, and after it a DaemonSet; or a DaemonSet after its kind
// and a slash.
func (cmd whyCommand) complete(f *whyFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, given []string, word string) ([]string, cobra.ShellCompDirective) {
		switch kind, _, typed := strings.Cut(word, "/"); {
		case len(given) == 0 && typed && !isNodes(kind), len(given) == 1 && !strings.Contains(given[0], "/"):
			return cmd.cluster.complete(c, cmd.cluster.daemonSetNames(f.namespace, word))
		case len(given) == 0 && !typed:
			return cmd.cluster.complete(c, cmd.cluster.nodeNames)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}
