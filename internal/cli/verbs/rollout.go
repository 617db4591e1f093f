package verbs

import (
	"fmt"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
)

// rolloutFlags are the flags of `rollout` and its commands.
type rolloutFlags struct {
	namespace, output  string
	verbose, wait, all bool
	release            int
}

// Exit codes of `rollout status`, besides console.ExitOK for a release that is through.
const (
	exitRolloutStands  = 1 // see rollout.State.Stands, or the guard holds pods
	exitRolloutGoesOn  = 2
	exitRolloutUnknown = 3 // so that callers can tell an error from a release that has stopped
)

// rolloutCommands are the commands of `rollout`.
type rolloutCommands struct {
	*console.Console
	cluster access
}

func (cmd rolloutCommands) command() *cobra.Command {
	f := &rolloutFlags{}
	c := &cobra.Command{
		Use:   "rollout",
		Short: "Watch and steer the releases of a DaemonSet that follows a RolloutPolicy",
		Long: `Watch and steer the releases of a DaemonSet that follows a RolloutPolicy.

Each command writes nothing but the spec of the DaemonSetRollout that has the namespace and the name
of the DaemonSet: what people ask for (undo --patch --write alone writes the DaemonSet). The engine heeds it, and says in the status what became of
it. With -v the kubectl command that does the same is printed.`,
		Example: `  everynode rollout status ds/agent -n monitoring
  everynode rollout pause ds/agent -n monitoring
  everynode rollout promote ds/agent canary -n monitoring   # the next wave may begin
  everynode rollout abort ds/agent -n monitoring            # all nodes go back`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.cluster.AddFlags(c)
	flags := c.PersistentFlags()
	cmd.cluster.namespaceFlag(c, c.PersistentFlags(), &f.namespace, "the DaemonSet", current)
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print the kubectl command that does the same")
	c.AddCommand(cmd.statusCommand(f), cmd.watchCommand(f), cmd.historyCommand(f), cmd.allowCommand(f))
	for _, v := range rolloutVerbs() {
		c.AddCommand(cmd.verbCommand(f, v))
	}
	for _, sub := range c.Commands() {
		sub.Long += "\n\n" + namedAs
	}
	return c
}

func (cmd rolloutCommands) statusCommand(f *rolloutFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "status ds/NAME",
		Short: "Say where the release of a DaemonSet is, and what it waits for",
		Long: `Say where the release of a DaemonSet is, what it waits for, and which nodes have failed.

It exits with 0 if the release is through, with 1 if it stands until a person does something (Halted,
Aborted, Held, or Waiting because no node is well; or the guard holds pods), with 2 if it is under way, and with 3 if that is not known,
also because the call is wrong.`,
		Example: `  everynode rollout status ds/agent -n monitoring
  everynode rollout status monitoring/agent -o wide   # also policy, wave and counts
  everynode rollout status monitoring/agent -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cmd.complete(f),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := cmd.target(f, args[0])
			if err != nil {
				return console.Failure(err, exitRolloutUnknown)
			}
			t.explain("kubectl get daemonsetrollout --namespace %s %s --output yaml", t.namespace, t.name)
			r, err := t.read(c.Context())
			if output, wide := formOf(f.output); err == nil {
				err = cmd.Print(output, r.DaemonSetRollout, func() error { return releaseText{r, cmd.Out}.print(wide) })
			}
			if err != nil {
				return console.Failure(err, exitRolloutUnknown)
			}
			return r.exit()
		},
	}
	console.OutputFlag(c, &f.output, "wide")
	console.ExitOnWrongCall(c, exitRolloutUnknown)
	return c
}

// formOf returns how Print is to write what -o asks for. wide means for people, with
// more columns.
func formOf(output string) (form string, wide bool) {
	if output == "wide" {
		return "", true
	}
	return output, false
}

func (cmd rolloutCommands) watchCommand(f *rolloutFlags) *cobra.Command {
	w := watchFlags{}
	c := &cobra.Command{
		Use:   "watch ds/NAME",
		Short: "Show what each node has of a DaemonSet, as a release goes on",
		Long: `Draw what 'everynode watch' draws: a sign for each node, the phase of the release and its open
wave, and what needs a look.`,
		Example: `  everynode rollout watch ds/agent -n monitoring
  everynode rollout watch ds/agent -n monitoring --until-done   # exit code 1 when it stops`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cmd.complete(f),
		RunE: func(c *cobra.Command, args []string) error {
			if err := w.checkEnd(); err != nil {
				return err
			}
			t, err := cmd.target(f, args[0])
			if err != nil {
				return err
			}
			w.namespace = t.namespace
			return watchCommand(cmd).run(c.Context(), &w, t.name)
		},
	}
	w.add(c)
	return c
}

// exit returns the exit code of `status`, as an error.
func (r *release) exit() error {
	switch p := r.state.Phase; {
	case r.held() > 0, r.state.Stands():
		return console.ExitStatus(exitRolloutStands)
	case p == rollout.Idle:
		return nil
	}
	return console.ExitStatus(exitRolloutGoesOn)
}

func (cmd rolloutCommands) verbCommand(f *rolloutFlags, v rolloutVerb) *cobra.Command {
	c := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example, Args: v.args,
		ValidArgsFunction: cmd.complete(f),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := cmd.target(f, args[0])
			if err != nil {
				return err
			}
			return t.ask(c.Context(), func(r *release) (request, error) {
				if c.Flags().Changed("release") && f.release != r.state.Release {
					return request{}, fmt.Errorf("--release %d: this is release %d of %s", f.release, r.state.Release, t)
				}
				return v.decide(r, args[1:], f.all)
			}, f.wait)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&f.wait, "wait", true, fmt.Sprintf("wait up to %s until the engine has acted on it, and say what became of it", answerTime))
	flags.IntVar(&f.release, "release", 0, "do it only to the release of this number (default: the one that there is)")
	if v.all != "" {
		flags.BoolVar(&f.all, "all", false, v.all)
	}
	if v.undoes {
		cmd.addUndo(c, f)
	}
	return c
}

// target finds the DaemonSet that the user named.
func (cmd rolloutCommands) target(f *rolloutFlags, arg string) (*rolloutTarget, error) {
	n, err := readSetName(arg, f.namespace)
	if err != nil {
		return nil, err
	}
	t := &rolloutTarget{console: cmd.Console, cluster: cmd.cluster, name: n.name, verbose: f.verbose}
	if t.namespace, err = cmd.cluster.orCurrent(n.namespace); err != nil {
		return nil, err
	}
	return t, t.connect()
}
