// Command outages measures what a bad release costs: with our engine, and with Kubernetes' own DaemonSet controller,
// on the same simulated fleet, with the same manifests, against a real API server. See docs/safe-releases.md.
//
// The API server, etcd and Kubernetes' controllers are processes of their own: this program again, under another name
// (bench/testbed).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/spf13/cobra"

	"everynode/bench/testbed"
)

func main() { os.Exit(testbed.Main(newCommand)) }

// settings are the flags.
type settings struct {
	nodes      int
	scale      float64
	only       []string // scenarios
	systems    []string
	output     string
	controller string
	temp       string
	record     string   // a folder; "": record nothing
	from       []string // files with results; if there are any, nothing is measured
}

func systemNames() []string { return []string{everynode, upstream} }

func newCommand() *cobra.Command {
	s := settings{nodes: 1000, scale: 60, systems: systemNames(), output: "table", controller: filepath.Join("bin", "everynode-controller"), temp: os.TempDir()}
	var list strings.Builder
	for _, one := range scenarios() {
		fmt.Fprintf(&list, "\n  %-14s %s", one.Name, one.Title)
	}
	cmd := &cobra.Command{
		Use:   "outages",
		Short: "Measure what a bad release costs, with our engine and with Kubernetes' controller",
		Long: `Measure what a bad release costs, with our engine and with Kubernetes' own DaemonSet
controller: the same simulated nodes, the same manifests, a real API server.

Nobody interferes until the time of a scenario is over. Then the release is taken
back: ours by an abort, that of Kubernetes by its template. The policy of ours is
the default one. Times are those of a real fleet; --scale shortens them, and the
client limits of Kubernetes' controllers are multiplied with it.

Scenarios:` + list.String(),
		Example: `  # All scenarios, 1,000 nodes: half an hour
  outages

  # One of them on a small fleet
  outages --scenario bad-image --nodes 100

  # The same, kept so that a browser shows it again
  outages --scenario bad-image --nodes 100 --scale 20 --record films
  everynode ui --replay films/bad-image-everynode.fleet.gz

  # What stands in docs/safe-releases.md, measured in two parts
  outages -o json --scenario late-crash,node-down-10m,leak >slow.json
  outages -o json --scenario crash,bad-image >fast.json
  outages -o markdown --from slow.json,fast.json`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if len(s.from) > 0 {
				return s.again(cmd.OutOrStdout())
			}
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.IntVar(&s.nodes, "nodes", s.nodes, "nodes of the fleet")
	f.Float64Var(&s.scale, "scale", s.scale, "how much faster than on a real fleet time goes")
	f.StringSliceVar(&s.only, "scenario", s.only, "play these alone")
	f.StringSliceVar(&s.systems, "systems", s.systems, "what to measure, in this order")
	f.StringVarP(&s.output, "output", "o", s.output, "table, markdown or json")
	f.StringSliceVar(&s.from, "from", s.from, "measure nothing: print what was printed into these files with -o json")
	f.StringVar(&s.controller, "controller", s.controller, "the engine's program")
	f.StringVar(&s.record, "record", s.record, "keep each scenario for `everynode ui --replay`, in this folder, as SCENARIO-SYSTEM.fleet.gz")
	f.StringVar(&s.temp, "temp", s.temp, "where etcd keeps its data")
	return cmd
}

func (s *settings) wants(name string) bool { return len(s.only) == 0 || slices.Contains(s.only, name) }

func (s *settings) check() error {
	given := map[string][]string{"--scenario": s.only, "--systems": s.systems, "--output": {s.output}}
	for flag, known := range map[string][]string{"--scenario": scenarioNames(), "--systems": systemNames(), "--output": slices.Sorted(maps.Keys(formats()))} {
		for _, name := range given[flag] {
			if !slices.Contains(known, name) {
				return fmt.Errorf("%s: there is no %q; there are %s", flag, name, strings.Join(known, ", "))
			}
		}
	}
	// The policy's shortest times are one second.
	if s.nodes < 20 || s.scale < 1 || s.scale > 600 {
		return errors.New("--nodes must be at least 20, --scale from 1 to 600")
	}
	if len(s.from) > 0 {
		return nil
	}
	if s.record != "" {
		if err := os.MkdirAll(s.record, 0o755); err != nil {
			return fmt.Errorf("--record %s: %w", s.record, err)
		}
	}
	if _, err := os.Stat(s.controller); err != nil && slices.Contains(s.systems, everynode) {
		return fmt.Errorf("the engine's program is missing: make bin/everynode-controller (%w)", err)
	}
	return nil
}

// run measures, and prints. It also prints what was measured before a failure.
func (s *settings) run(ctx context.Context, out, progress io.Writer) error {
	dir, err := os.MkdirTemp(s.temp, "outages-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	r := &results{Started: began.UTC().Truncate(time.Second), Nodes: s.nodes, Scale: s.scale, CPUs: runtime.NumCPU(), Memory: memory(),
		Versions: testbed.ModuleVersion("k8s.io/kubernetes")}
	o := &outages{settings: *s, root: dir, progress: progress, began: began, results: r}
	failure := o.all(ctx)
	r.Seconds = time.Since(began).Seconds()
	if len(r.Results) == 0 {
		return failure
	}
	return errors.Join(failure, formats()[s.output](out, r))
}

// again prints the results of earlier measurements.
func (s *settings) again(out io.Writer) error {
	var parts []*results
	for _, name := range s.from {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		part := &results{}
		if err := json.Unmarshal(text, part); err != nil {
			return fmt.Errorf("read the results in %s: %w", name, err)
		}
		parts = append(parts, part)
	}
	all, err := merge(parts)
	if err != nil {
		return err
	}
	return formats()[s.output](out, all)
}

// memory returns how much memory the machine has, in bytes; 0 if that is not known.
func memory() uint64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	mem, err := fs.Meminfo()
	if err != nil || mem.MemTotalBytes == nil {
		return 0
	}
	return *mem.MemTotalBytes
}
