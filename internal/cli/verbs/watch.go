package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
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

func (a *app) watchCommand() *cobra.Command {
	f := watchFlags{}
	c := &cobra.Command{
		Use:   "watch daemonset/NAME",
		Short: "Show what each node has of a DaemonSet, as it changes",
		Long: `Draw a map of the fleet: a sign for each node, a row for each zone, and below it what needs a
look, with the reason that 'everynode why' gives. It follows the cluster until Ctrl-C or q ends it,
whoever its DaemonSet controller is, and changes nothing.

Where nodes are more than the terminal has room for, a sign stands for several and shows the worst.
Without a terminal, or with --once, one picture is printed.`,
		Example: `  everynode watch ds/audit-agent
  everynode watch ds/fluent-bit -n kube-system --kubeconfig ~/.kube/config
  everynode watch ds/audit-agent --policy policy.yaml    # in the order of its waves
  everynode watch ds/audit-agent --until-done            # exit code 0 when the update is through
  everynode watch ds/audit-agent --once > map.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := f.check(args[0])
			if err != nil {
				return err
			}
			if f.namespace, err = a.orCurrent(f.namespace); err != nil {
				return err
			}
			return a.watch(c.Context(), &f, name)
		},
		ValidArgsFunction: a.completeWatched(&f),
	}
	a.cluster.AddFlags(c)
	a.namespaceFlag(c, c.Flags(), &f.namespace, "the DaemonSet", current)
	f.add(c)
	return c
}

// add adds the flags that `rollout watch` has as well.
func (f *watchFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "file with a RolloutPolicy: nodes in the order of its waves, and how far each wave is (default: the policy that the engine follows)")
	flags.BoolVar(&f.once, "once", false, "print one picture and end")
	flags.BoolVar(&f.untilDone, "until-done", false, "end when each node that is Ready and should have the newest pod has it, it is available, and a release in waves is through")
	flags.DurationVar(&f.giveUp, "give-up", 10*time.Minute, "with --until-done and no release in waves: end with an error when no further node got there for so long (0: never)")
}

// check returns the DaemonSet's name.
func (f *watchFlags) check(arg string) (name string, err error) {
	kind, name, typed := strings.Cut(arg, "/")
	if !typed {
		kind, name = "ds", arg
	}
	if name == "" || kind != "daemonset" && kind != "daemonsets" && kind != "ds" {
		return "", console.Usage(fmt.Errorf("%s: give a DaemonSet, as daemonset/NAME", arg))
	}
	return name, f.checkEnd()
}

func (f *watchFlags) checkEnd() error {
	switch {
	case f.once && f.untilDone:
		return console.Usage(errors.New("--once and --until-done exclude each other: one ends at once, the other when the update is through"))
	case f.giveUp < 0:
		return console.Usage(fmt.Errorf("--give-up %s: give a time that is not negative", f.giveUp))
	}
	return nil
}

// completeWatched completes the name by those of the namespace.
func (a *app) completeWatched(f *watchFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, given []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(c, a.daemonSetNames(f.namespace, word))
	}
}

func (a *app) watch(ctx context.Context, f *watchFlags, name string) error {
	policy, err := a.readPolicy(f.policy)
	if err != nil {
		return err
	}
	config, err := a.cluster.Config()
	if err != nil {
		return err
	}
	config.WarningHandler = rest.NoWarnings{} // they would be written across the picture
	client, err := ForFleet(config)
	if err != nil {
		return err
	}
	kinds, err := a.rolloutKinds()
	if err != nil {
		return err
	}
	return a.watchSet(ctx, client, kinds, f, name, policy)
}

// watchSet draws one DaemonSet until there is a reason to end.
func (a *app) watchSet(ctx context.Context, client kubernetes.Interface, kinds rolloutKinds, f *watchFlags, name string, policy *givenPolicy) error {
	l, err := newLookout(ctx, client, kinds, f.namespace, name, policy)
	if err != nil {
		return err
	}
	out, terminal := a.terminal()
	if f.once || !terminal && !f.untilDone {
		return a.watchOnce(ctx, l)
	}
	w := watcher{lookout: l, untilDone: f.untilDone, giveUp: f.giveUp, called: a.Called, command: a.Called(fmt.Sprintf("everynode why ds/%s -n %s --not-ok", name, f.namespace))}
	if terminal {
		s, err := openScreen(a.In, out)
		if err != nil {
			return err
		}
		w.canvas = s
	} else {
		w.canvas = &lines{out: a.Out}
	}
	last, err := w.run(ctx)
	err = errors.Join(err, w.canvas.close())
	if last != nil { // what was seen last stays to be read
		err = errors.Join(a.printFrame(&last.Model), err)
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

// watchOnce prints one picture.
func (a *app) watchOnce(ctx context.Context, l *lookout.Lookout) error {
	if err := l.Read(ctx); err != nil {
		return err
	}
	if _, err := l.See(time.Now(), false); err != nil {
		return err
	}
	if err := l.Ask(ctx); err != nil {
		a.Warn("warning: events were not read, so some reasons are left out: %v\n", err)
	}
	p, err := l.See(time.Now(), false)
	if err != nil {
		return err
	}
	return a.printFrame(&p.Model)
}

// printFrame prints a picture that stays where it is.
func (a *app) printFrame(m *fleetmap.Model) error {
	columns, rows := plainSize()
	out, terminal := a.terminal()
	if terminal {
		columns, rows = sizeOf(out)
		rows-- // for the prompt
	}
	var b strings.Builder
	m.Command = a.Called(m.Command)
	for _, l := range fleetmap.Frame(m, columns, rows) {
		if terminal && coloured() {
			b.WriteString(l.Coloured() + "\n")
		} else {
			b.WriteString(l.Plain() + "\n")
		}
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}

// coloured says that the user has nothing against colours: https://no-color.org.
func coloured() bool { return os.Getenv("NO_COLOR") == "" }
