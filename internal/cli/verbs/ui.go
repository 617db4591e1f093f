package verbs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/ui"
)

// uiFlags are the flags of `ui`.
type uiFlags struct {
	namespace      string
	port           int
	open, actions  bool
	record, replay string
	speed          float64
	from           time.Duration
}

// uiCommand is `ui`.
type uiCommand struct {
	*console.Console
	cluster access
}

func (cmd uiCommand) command() *cobra.Command {
	f := uiFlags{}
	c := &cobra.Command{
		Use:   "ui",
		Short: "Show the fleet in a browser",
		Long: `Serve a page on this machine that shows the fleet: a cell for each node, what needs a look and why, each DaemonSet with its
waves and revisions, each node. It follows the cluster while somebody looks, with the rights of the kubeconfig, and changes nothing
unless --allow-actions lets it steer releases.

The link that is printed has a token: who has the link sees what you see. It is good until this command ends. On a machine
without a browser, forward the port: ssh -L 8700:127.0.0.1:8700 MACHINE, with --port 8700.`,
		Example: `  everynode ui
  everynode ui -n monitoring                        # the DaemonSets of one namespace
  everynode ui --allow-actions                      # pause, resume, promote and abort releases from the page
  everynode ui --port 8700 --open=false             # on a machine that you are logged in to
  everynode ui --record release.fleet               # keep what is seen
  everynode ui --replay release.fleet --speed 10    # and play it again
  everynode ui --replay release.fleet --from 2m     # from two minutes in`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c.Flags().Changed("speed") || c.Flags().Changed("from"), clusterFlag(c)); err != nil {
				return err
			}
			return cmd.run(c.Context(), &f)
		},
	}
	cmd.cluster.AddFlags(c)
	flags := c.Flags()
	cmd.cluster.namespaceFlag(c, flags, &f.namespace, "the DaemonSets", "all")
	flags.IntVar(&f.port, "port", 0, "port of the page on 127.0.0.1 (0: one that is free)")
	flags.BoolVar(&f.open, "open", true, "open a browser, if there is one")
	flags.BoolVar(&f.actions, "allow-actions", false, "let the page pause, resume, promote and abort releases; each is confirmed")
	flags.StringVar(&f.record, "record", "", "write what is seen to this file, until the command ends")
	flags.StringVar(&f.replay, "replay", "", "play a file of --record; no cluster is asked")
	flags.Float64Var(&f.speed, "speed", 1, "with --replay: how many times as fast")
	flags.DurationVar(&f.from, "from", 0, "with --replay: begin so far into the recording")
	return c
}

// check returns an error for flags that contradict each other. played means that --speed or --from
// was given, ofCluster is a flag that was given and chooses the cluster.
func (f *uiFlags) check(played bool, ofCluster string) error {
	switch {
	case f.replay != "" && ofCluster != "":
		return console.Usage(fmt.Errorf("--replay and --%s exclude each other: a recording is shown without a cluster", ofCluster))
	case f.replay != "" && (f.record != "" || f.actions || f.namespace != ""):
		return console.Usage(errors.New("--replay shows what was: it goes without --record, --allow-actions and --namespace"))
	case played && f.replay == "":
		return console.Usage(errors.New("--speed and --from are for --replay"))
	case f.port < 0 || f.port > 65535:
		return console.Usage(fmt.Errorf("--port %d: give a port from 1 to 65535, or 0 for one that is free", f.port))
	case f.from < 0:
		return console.Usage(fmt.Errorf("--from %s: give a time that is not negative", f.from))
	case !(f.speed > 0 && f.speed <= 1000):
		return console.Usage(fmt.Errorf("--speed %v: give more than 0, and 1000 at most", f.speed))
	}
	return nil
}

// run serves the page until ctx ends.
func (cmd uiCommand) run(ctx context.Context, f *uiFlags) (err error) {
	o := ui.Options{Program: cmd.Program, Errors: cmd.Err, Replay: f.replay}
	if f.replay == "" {
		o.Source, err = cmd.liveFleet(f.namespace)
	} else {
		o.Source, err = readRecording(f.replay, ui.Playing{Speed: f.speed, From: f.from})
	}
	if err != nil {
		return err
	}
	if f.actions {
		o.Act = cmd.steer
	}
	if f.record != "" {
		file, err := os.OpenFile(f.record, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // logs may contain secrets
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("--record %s: there is such a file, and it is not written over: give another name", f.record)
		}
		if err != nil {
			return fmt.Errorf("record what is seen: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		o.Record = file
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port)))
	if err != nil {
		return fmt.Errorf("serve the page: %w; --port 0 takes a port that is free", err)
	}
	return cmd.serve(ctx, ui.New(o, ui.NewToken()), l, f.open)
}

// serve prints the page's address, opens it if asked to, and serves it.
func (cmd uiCommand) serve(ctx context.Context, s *ui.Server, l net.Listener, open bool) error {
	url := s.URL(l)
	if err := cmd.Say("The fleet is at\n\n  %s\n\nWho has this link sees what you see. Ctrl-C ends it.\n", url); err != nil {
		return errors.Join(err, l.Close())
	}
	if open {
		closeIt, err := openBrowser(url)
		if err != nil {
			cmd.Warn("warning: no browser was opened: %v\n", err)
		}
		defer closeIt()
	}
	return s.Serve(ctx, l)
}

func readRecording(name string, how ui.Playing) (*ui.Recording, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("play a recording: %w", err)
	}
	recording, err := ui.Read(file, how)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("play %s: %w", name, err), file.Close())
	}
	return recording, file.Close()
}
