package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/atomicfile"
	"everynode/internal/cli/console"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/local"
	"everynode/internal/logfile"
)

const (
	maxSimulated   = 20_000
	simulatorGrace = 10 * time.Second
	// simulatorLogName is in the data directory.
	simulatorLogName = "simulator.log"
)

// simulateFlags are the flags of `up` about simulated nodes.
type simulateFlags struct {
	count int // 0: as many as there are
	rules fleet.Rules
	flags *pflag.FlagSet
}

func defaultRules() fleet.Rules {
	return fleet.Rules{Start: 2 * time.Second, Ready: time.Second, Stop: time.Second, Jitter: 0.2, Seed: 1}
}

func newSimulateFlags(flags *pflag.FlagSet) *simulateFlags {
	s, d := &simulateFlags{flags: flags}, defaultRules()
	flags.IntVar(&s.count, "simulate", 0, "how many simulated nodes beside the real ones (with --nodes 0: alone, and without root)")
	flags.DurationVar(&s.rules.Start, "simulate-start", d.Start, "how long the containers of a simulated pod take to start")
	flags.DurationVar(&s.rules.Ready, "simulate-ready", d.Ready, "how long they take to be ready")
	flags.DurationVar(&s.rules.Stop, "simulate-stop", d.Stop, "how long a deleted pod takes to end, at most its grace period")
	flags.TextVar(&s.rules.Jitter, "simulate-jitter", d.Jitter, "by how much these delays vary, up and down")
	flags.TextVar(&s.rules.Fail, "simulate-fail", d.Fail, "which pods fail and how, such as 1%, unready:5% or crash@example.com/agent:2")
	flags.Uint64Var(&s.rules.Seed, "simulate-seed", d.Seed, "another seed gives other delays, and lets other pods fail")
	return s
}

// setters are what each flag of a rule sets in the rules.
func (s *simulateFlags) setters() map[string]func(*fleet.Rules) {
	return map[string]func(*fleet.Rules){
		"simulate-start":  func(r *fleet.Rules) { r.Start = s.rules.Start },
		"simulate-ready":  func(r *fleet.Rules) { r.Ready = s.rules.Ready },
		"simulate-stop":   func(r *fleet.Rules) { r.Stop = s.rules.Stop },
		"simulate-jitter": func(r *fleet.Rules) { r.Jitter = s.rules.Jitter },
		"simulate-fail":   func(r *fleet.Rules) { r.Fail = s.rules.Fail },
		"simulate-seed":   func(r *fleet.Rules) { r.Seed = s.rules.Seed },
	}
}

// check refuses what cannot be before anything is done.
func (s *simulateFlags) check() error {
	if s.flags.Changed("simulate") && (s.count < 1 || s.count > maxSimulated) {
		return console.Usage(fmt.Errorf("--simulate %d: give a number from 1 to %d", s.count, maxSimulated))
	}
	if err := s.rules.Validate(); err != nil {
		return console.Usage(err)
	}
	return nil
}

// given tells whether any of the flags was.
func (s *simulateFlags) given() bool {
	for name := range s.setters() {
		if s.flags.Changed(name) {
			return true
		}
	}
	return s.count > 0
}

// over puts what was given over the rules that held until now.
func (s *simulateFlags) over(rules fleet.Rules) fleet.Rules {
	for name, set := range s.setters() {
		if s.flags.Changed(name) {
			set(&rules)
		}
	}
	return rules
}

func (m *machine) simulatorLock() string { return filepath.Join(m.DataDir, "simulator.lock") }

func (m *machine) simulatorLog() string { return filepath.Join(m.DataDir, simulatorLogName) }

func rulesFile(dataDir string) string { return filepath.Join(dataDir, "simulate.json") }

// simulator describes the process that plays the kubelets of simulated nodes.
func (m *machine) simulator() local.Process {
	return local.Process{
		Name:     "simulator",
		Argv:     []string{m.exe, "simulator", "--data-dir", m.DataDir},
		Log:      m.simulatorLog(),
		LockFile: m.simulatorLock(),
	}
}

// readRules reads the rules of a cluster with simulated nodes. In one without,
// simulates is false, and the rules are what they are at first.
func readRules(dataDir string) (rules fleet.Rules, simulates bool, err error) {
	data, err := os.ReadFile(rulesFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return defaultRules(), false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &rules)
	}
	if err != nil {
		return rules, false, fmt.Errorf("read the rules of the simulated nodes: %w; delete %s to start over with the usual ones", err, rulesFile(dataDir))
	}
	return rules, true, nil
}

// runSimulator starts the simulator, if it does not run with these rules already.
func (m *machine) runSimulator(ctx context.Context, change func(fleet.Rules) fleet.Rules) error {
	old, simulates, err := readRules(m.DataDir)
	if err != nil {
		return err
	}
	before, err := json.Marshal(old)
	if err != nil {
		return fmt.Errorf("encode the rules of the simulated nodes: %w", err)
	}
	after, err := json.Marshal(change(old))
	if err != nil {
		return fmt.Errorf("encode the rules of the simulated nodes: %w", err)
	}
	if !simulates || string(before) != string(after) {
		if err := atomicfile.Write(rulesFile(m.DataDir), append(after, '\n')); err != nil {
			return fmt.Errorf("write the rules of the simulated nodes: %w", err)
		}
		if err := m.stopSimulator(ctx); err != nil {
			return err
		}
	}
	if _, ok := datadir.Running(m.simulatorLock()); ok {
		return nil
	}
	_, err = local.Spawn(ctx, m.simulator())
	return err
}

func (m *machine) stopSimulator(ctx context.Context) error {
	return local.Stop(ctx, m.simulatorLock(), simulatorGrace)
}

// simulatorCommand is the role of the simulator's process. It needs no rights on
// the machine, and has only the simulator's in the cluster.
func simulatorCommand(terminal *console.Console, cluster *target) *cobra.Command {
	c := &cobra.Command{
		Use: "simulator", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			release, err := datadir.Lock(filepath.Join(cluster.dataDir, "simulator.lock"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			rules, _, err := readRules(cluster.dataDir)
			if err != nil {
				return err
			}
			access := controlplane.AccessForSimulator(cluster.dataDir)
			config, err := clientcmd.BuildConfigFromFlags("", access.Kubeconfig)
			if err != nil {
				return fmt.Errorf("the simulator has no access to the cluster: %w; `everynode down` and `everynode up` make it", err)
			}
			config.UserAgent = "everynode/simulator"
			log := slog.New(slog.NewTextHandler(terminal.Err, nil))
			defer logfile.KeepOwn(os.Stderr, filepath.Join(cluster.dataDir, simulatorLogName), log)()
			return fleet.Run(c.Context(), fleet.Config{Client: config, Rules: rules, CertFile: access.CertFile, KeyFile: access.KeyFile, Log: log})
		},
	}
	cluster.addFlags(c)
	return c
}
