package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/cli/console"
	"everynode/internal/fleetmap"
	"everynode/internal/lookout"
)

// watchFlags are the flags of `watch`.
type watchFlags struct {
	namespace, policy string
	once, untilDone   bool
	giveUp            time.Duration
}

// watchCommand is `watch`.
type watchCommand struct {
	*console.Console
	cluster access
}

func (cmd watchCommand) command() *cobra.Command {
	f := watchFlags{}
	c := &cobra.Command{
		Use:   "watch ds/NAME",
		Short: "Show what each node has of a DaemonSet, as it changes",
		Long: `Draw a map of the fleet: a sign for each node, a row for each zone, and below it what needs a
look, with the reason that 'everynode why' gives. It follows the cluster until Ctrl-C or q ends it,
whoever its DaemonSet controller is, and changes nothing.

Where nodes are more than the terminal has room for, a sign stands for several and shows the worst.
Without a terminal, or with --once, one picture is printed.

` + namedAs,
		Example: `  everynode watch ds/audit-agent
  everynode watch ds/fluent-bit -n kube-system --kubeconfig ~/.kube/config
  everynode watch ds/audit-agent --policy policy.yaml    # in the order of its waves
  everynode watch ds/audit-agent --until-done            # exit code 0 when the update is through
  everynode watch ds/audit-agent --once > map.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := readSetName(args[0], f.namespace)
			if err == nil {
				err = f.checkEnd()
			}
			if err != nil {
				return err
			}
			if f.namespace, err = cmd.cluster.orCurrent(n.namespace); err != nil {
				return err
			}
			return cmd.run(c.Context(), &f, n.name)
		},
		ValidArgsFunction: cmd.complete(&f),
	}
	cmd.cluster.AddFlags(c)
	cmd.cluster.namespaceFlag(c, c.Flags(), &f.namespace, "the DaemonSet", current)
	f.add(c)
	return c
}

// add adds the flags that `rollout watch` shares.
func (f *watchFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "file with a RolloutPolicy: nodes in the order of its waves, and how far each wave is (default: the policy that the engine follows)")
	flags.BoolVar(&f.once, "once", false, "print one picture and end")
	flags.BoolVar(&f.untilDone, "until-done", false, "end when each node that is Ready and should have the newest pod has it, it is available, and a release in waves is through")
	flags.DurationVar(&f.giveUp, "give-up", 10*time.Minute, "with --until-done and no release in waves: end with an error when no further node got there, or nothing could be read, for so long (0: never)")
}

// checkEnd refuses flags that contradict each other.
func (f *watchFlags) checkEnd() error {
	switch {
	case f.once && f.untilDone:
		return console.Usage(errors.New("--once and --until-done exclude each other: one ends at once, the other when the update is through"))
	case f.giveUp < 0:
		return console.Usage(fmt.Errorf("--give-up %s: give a time that is not negative", f.giveUp))
	}
	return nil
}

// complete completes the names of DaemonSets in the namespace.
func (cmd watchCommand) complete(f *watchFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, given []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return cmd.cluster.complete(c, cmd.cluster.daemonSetNames(f.namespace, word))
	}
}

func (cmd watchCommand) run(ctx context.Context, f *watchFlags, name string) error {
	policy, err := readPolicy(console.Until(ctx, cmd.In), f.policy)
	if err != nil {
		return err
	}
	config, err := cmd.cluster.Config()
	if err != nil {
		return err
	}
	config.WarningHandler = rest.NoWarnings{} // they would be written into the picture
	client, err := ForFleet(config)
	if err != nil {
		return err
	}
	kinds, err := cmd.cluster.kinds()
	if err != nil {
		return err
	}
	return cmd.watchSet(ctx, client, kinds, f, name, policy)
}

// watchSet draws one DaemonSet until the update is through or the user ends it.
func (cmd watchCommand) watchSet(ctx context.Context, client kubernetes.Interface, kinds rolloutKinds, f *watchFlags, name string, policy *givenPolicy) error {
	l, err := newLookout(ctx, client, kinds, f.namespace, name, policy)
	if err != nil {
		return err
	}
	out, terminal := terminalOf(cmd.Out)
	if f.once || !terminal && !f.untilDone {
		return cmd.once(ctx, l)
	}
	w := watcher{lookout: l, untilDone: f.untilDone, giveUp: f.giveUp, set: f.namespace + "/" + name, typed: cmd.typed}
	w.command = cmd.typed(fmt.Sprintf("everynode why ds/%s -n %s --not-ok", name, f.namespace))
	if terminal {
		s, err := openScreen(cmd.In, out)
		if err != nil {
			return err
		}
		w.canvas = s
	} else {
		w.canvas = newLines(cmd.Out)
	}
	last, err := w.run(ctx)
	err = errors.Join(err, w.canvas.close())
	if last != nil { // the last picture stays on the terminal
		err = errors.Join(cmd.printFrame(&last.Model), err)
	}
	return err
}

func newLookout(ctx context.Context, client kubernetes.Interface, kinds rolloutKinds, namespace, name string, given *givenPolicy) (*lookout.Lookout, error) {
	releases := lookout.Releases{Rollouts: kinds.rollouts, Policies: kinds.policies}
	if given == nil {
		return lookout.New(ctx, client, releases, namespace, name, nil)
	}
	return lookout.New(ctx, client, releases, namespace, name, &given.policy)
}

// once prints one picture.
func (cmd watchCommand) once(ctx context.Context, l *lookout.Lookout) error {
	if err := l.Read(ctx); err != nil {
		return err
	}
	if _, err := l.See(time.Now(), false); err != nil {
		return err
	}
	if err := l.Ask(ctx); err != nil {
		cmd.Warn("warning: events were not read, so some reasons are left out: %v\n", err)
	}
	p, err := l.See(time.Now(), false)
	if err != nil {
		return err
	}
	p.Model.Command = cmd.typed(p.Model.Command)
	return cmd.printFrame(&p.Model)
}

// typed returns a command as users type it for the cluster.
func (cmd watchCommand) typed(command string) string { return cmd.cluster.typed(cmd.Console, command) }

// printFrame prints a picture that stays on the terminal.
func (cmd watchCommand) printFrame(m *fleetmap.Model) error {
	columns, rows := plainSize()
	out, terminal := terminalOf(cmd.Out)
	if terminal {
		columns, rows = sizeOf(out)
		rows-- // for the prompt
	}
	lines, below := fleetmap.Frame(m, columns, rows), ""
	if cut(m, lines) { // whoever copies the rest of it asks another cluster
		below = "    " + m.Command + "\n"
		lines = fleetmap.Frame(m, columns, rows-1-len(below)/columns)
	}
	var b strings.Builder
	for _, l := range lines {
		if terminal && coloured() {
			b.WriteString(l.Coloured() + "\n")
		} else {
			b.WriteString(l.Plain() + "\n")
		}
	}
	if _, err := cmd.Out.Write([]byte(b.String())); err != nil {
		return err
	}
	return cmd.Say("%s", below)
}

// cut reports whether the lines have only a part of the command that shows more.
func cut(m *fleetmap.Model, lines []fleetmap.Line) bool {
	whole := func(l fleetmap.Line) bool { return strings.Contains(l.Plain(), m.Command) }
	return len(m.Exceptions) > 0 && !slices.ContainsFunc(lines, whole)
}

// coloured reports whether the user allows colours: https://no-color.org.
func coloured() bool { return os.Getenv("NO_COLOR") == "" }
