// Command bench compares the DaemonSet engine with Kubernetes' own DaemonSet
// controller: the same API server and etcd, the same nodes, the same template,
// one after the other on one machine. See docs/performance.md.
//
// The API server, etcd and Kubernetes' controllers are processes of their own:
// this program again, in another role (testbed/roles.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

func main() { os.Exit(testbed.Main(newCommand)) }

// settings are the flags.
type settings struct {
	nodes       int
	asShipped   int
	repetitions int
	joins       int
	burst       int
	serial      int
	real        int
	idle        int
	foreign     int
	sets        int
	updates     int
	plainPods   bool
	systems     []string
	phases      []string
	controller  string
	before      string
	results     string
	temp        string
}

func newCommand() *cobra.Command {
	s := settings{nodes: 5000, asShipped: 1000, repetitions: 3, joins: 100, burst: 200, serial: 200, real: 1000, idle: 100, foreign: 10_000, sets: 1,
		systems: []string{"R", "U2", "E", "P", "I", "U16", "U0"}, phases: phaseNames(), controller: filepath.Join("bin", "everynode-controller")}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the DaemonSet engine beside Kubernetes' own controller",
		Long: `Measure the DaemonSet engine beside Kubernetes' own controller.

Systems:
  R    a bare client that creates the same pods, encoded beforehand: the lower bound
  U2   kube-controller-manager with its DaemonSet controller alone, and kube-scheduler,
       client limits lifted to 10,000 requests a second, 2 syncs at once
  U16  the same, 16 syncs at once, where several DaemonSets have work at once
  U0   the same as shipped: 20 requests a second, 2 syncs (cold coverage only)
  E    everynode-controller
  P    the same, and the DaemonSets follow a policy: one node, then all, without soak
  I    the same as E, and the DaemonSets ask to be updated in place
  B    another everynode-controller, such as that of an earlier commit (--before)`,
		Example: `  # Everything: half an hour
  bench

  # What the changes since a commit cost
  git worktree add ../before COMMIT && make -C ../before bin/everynode-controller
  bench --systems B,E,P --phases coverage,rollout --reps 5 --before ../before/bin/everynode-controller`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.IntVar(&s.nodes, "nodes", s.nodes, "nodes of the cluster")
	f.IntVar(&s.asShipped, "as-shipped-nodes", s.asShipped, "nodes of the cluster that U0 is measured on, with E beside it; at most --nodes")
	f.IntVar(&s.repetitions, "reps", s.repetitions, "repetitions of each system, in turn and every other time backwards; U16, U0, I, and the phases that measure processor time alone run once")
	f.IntVar(&s.joins, "joins", s.joins, "nodes that join one at a time, and nodes whose label is set")
	f.IntVar(&s.burst, "burst", s.burst, "nodes that join at once")
	f.IntVar(&s.serial, "serial", s.serial, "nodes of the DaemonSet that is updated one node at a time")
	f.IntVar(&s.real, "real", s.real, "nodes of the DaemonSet that is updated while the kubelets write what real ones do")
	f.IntVar(&s.idle, "idle", s.idle, "idle DaemonSets, which a joining node then gets all of")
	f.IntVar(&s.foreign, "foreign", s.foreign, "pods of a Deployment, which are nothing to DaemonSets, and each of which changes once")
	f.IntVar(&s.sets, "sets", s.sets, "DaemonSets that cover the cluster and are then updated, all at once")
	f.IntVar(&s.updates, "updates", s.updates, "update so many of them only; 0 for all")
	f.BoolVar(&s.plainPods, "plain-pods", s.plainPods, "cover the cluster with the smallest pods, for fleets that would not fit into memory with agents")
	f.StringSliceVar(&s.systems, "systems", s.systems, "what to measure, in this order")
	f.StringSliceVar(&s.phases, "phases", s.phases, "what to do; coverage always comes first")
	f.StringVar(&s.controller, "controller", s.controller, "the engine's program")
	f.StringVar(&s.before, "before", "", "the program that B is")
	f.StringVar(&s.results, "results", filepath.Join("bench", "results"), "directory for bench.json, table.txt and bench.svg")
	f.StringVar(&s.temp, "temp", os.TempDir(), "where etcd keeps its data; a disk, or it does not count")
	return cmd
}

func (s *settings) check() error {
	for name, known := range map[string][]string{"--systems": systemNames(), "--phases": phaseNames()} {
		given := map[string][]string{"--systems": s.systems, "--phases": s.phases}[name]
		for _, v := range given {
			if !slices.Contains(known, v) {
				return fmt.Errorf("%s: there is no %q; there are %s", name, v, strings.Join(known, ", "))
			}
		}
	}
	if s.nodes < 1 || s.repetitions < 1 || s.joins < 1 || s.burst < 1 || s.idle < 1 || s.serial < 1 || s.real < 1 || s.sets < 1 || s.foreign < 1 {
		return errors.New("--nodes, --reps, --joins, --burst, --serial, --real, --idle, --foreign and --sets must be at least 1")
	}
	if s.updates < 0 || s.updates > s.sets {
		return fmt.Errorf("--updates: there are %d DaemonSets, not %d", s.sets, s.updates)
	}
	if s.updates == 0 {
		s.updates = s.sets
	}
	s.serial, s.real, s.asShipped = min(s.serial, s.nodes), min(s.real, s.nodes), min(s.asShipped, s.nodes)
	if slices.ContainsFunc(s.systems, func(name string) bool { return name == "E" || name == "P" || name == "I" }) {
		if _, err := os.Stat(s.controller); err != nil {
			return fmt.Errorf("the engine's program is missing: make bin/everynode-controller (%w)", err)
		}
	}
	if !slices.Contains(s.systems, "B") {
		return nil
	}
	if s.before == "" {
		return errors.New("--systems B: --before must name its program")
	}
	if _, err := os.Stat(s.before); err != nil {
		return fmt.Errorf("--before: %w", err)
	}
	return nil
}

// run measures everything and reports. It also reports what was measured before
// a failure.
func (s *settings) run(ctx context.Context, out, progress io.Writer) error {
	dir, err := os.MkdirTemp(s.temp, "bench-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	b := &bench{settings: *s, root: dir, progress: progress, began: began}
	failure := b.all(ctx)
	if len(b.samples) == 0 {
		return failure
	}
	results := &report.Results{
		Started: began.UTC().Truncate(time.Second), Seconds: time.Since(began).Seconds(), Machine: describeMachine(),
		Versions: map[string]string{"kubernetes": testbed.ModuleVersion("k8s.io/kubernetes"), "etcd": testbed.ModuleVersion("go.etcd.io/etcd/server/v3"), "go": runtime.Version()},
		Nodes:    s.nodes, NodeBytes: b.nodeBytes, Idle: s.idle, Burst: s.burst, Serial: s.serial, Real: s.real, Foreign: s.foreign, Bare: b.bare.String(), Samples: b.samples,
	}
	return errors.Join(failure, report.Write(out, s.results, results))
}
