// Command start measures how long a cluster of `everynode up` takes to start, and what it costs while nothing
// happens: with its add-ons and with --bare, of one version or of several. See docs/performance.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if newCommand().ExecuteContext(ctx) != nil {
		stop()
		os.Exit(1) // cobra has printed the error
	}
}

// settings are the flags.
type settings struct {
	programs []string
	agent    string // a manifest
	reps     int
	idle     time.Duration
	variants []string
}

func newCommand() *cobra.Command {
	s := settings{}
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Measure how long a cluster takes to start, and what it costs when nothing happens",
		Long: `Start clusters of three nodes, one after the other, each in a new data directory that
is purged afterwards. For each: the time until the nodes are ready, the time until
the audit agent is available on all of them, and the memory of all processes after
a while in which nothing happened. Needs root, as real nodes do, and no other
cluster at the same time.

Memory is what no file stands behind, so that the kernel cannot take it back. With
files it is each process' share (PSS): what several of them map counts once. A program
in Go gives back what it no longer needs within some two minutes.`,
		Example: `  # What the add-ons cost
  start

  # This version beside another one, without add-ons
  start --program bin/everynode,/tmp/before/bin/everynode --variants bare`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			measured, err := s.measure(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), measured)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&s.programs, "program", []string{"bin/everynode"}, "programs to measure, in turn")
	f.StringSliceVar(&s.variants, "variants", []string{"bare", "addons"}, "clusters to start: bare, addons")
	f.StringVar(&s.agent, "agent", "examples/node-audit-daemonset.yaml", "manifest of the audit agent")
	f.IntVar(&s.reps, "reps", 5, "how often each is started")
	f.DurationVar(&s.idle, "idle", 4*time.Minute, "how long nothing happens before memory is read")
	return cmd
}

// flagsOf returns the flags of `everynode up` for a variant.
func flagsOf(variant string) (flags []string, ok bool) {
	switch variant {
	case "bare":
		return []string{"--bare"}, true
	case "addons":
		return nil, true
	}
	return nil, false
}

func (s *settings) check() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("real nodes need root: run it with sudo")
	}
	if s.reps < 1 {
		return fmt.Errorf("--reps is %d: it must be 1 or more", s.reps)
	}
	for _, v := range s.variants {
		if _, ok := flagsOf(v); !ok {
			return fmt.Errorf("--variants: there is no %q: use bare, addons", v)
		}
	}
	for _, file := range append([]string{s.agent}, s.programs...) {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w: run it in the repository, after make build", err)
		}
	}
	return nil
}
