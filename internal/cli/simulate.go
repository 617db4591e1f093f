package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/logfile"
)

const maxSimulated = 20_000

// simulateFlags are the flags of `up` about simulated nodes.
type simulateFlags struct {
	count int // 0: as many as the cluster has
	rules fleet.Rules
	flags *pflag.FlagSet
}

func newSimulateFlags(flags *pflag.FlagSet) *simulateFlags {
	s, d := &simulateFlags{flags: flags}, localcluster.DefaultRules()
	flags.IntVar(&s.count, "simulate", 0, "how many simulated nodes beside the real ones (with --nodes 0: alone, and without root)")
	flags.DurationVar(&s.rules.Start, "simulate-start", d.Start, "how long the containers of a simulated pod take to start")
	flags.DurationVar(&s.rules.Ready, "simulate-ready", d.Ready, "how long they take to be ready")
	flags.DurationVar(&s.rules.Stop, "simulate-stop", d.Stop, "how long a deleted pod takes to end, at most its grace period")
	flags.TextVar(&s.rules.Jitter, "simulate-jitter", d.Jitter, "by how much these delays vary, up and down")
	flags.TextVar(&s.rules.Fail, "simulate-fail", d.Fail, "which pods fail and how, such as 1%, unready:5% or crash@example.com/agent:2")
	flags.Uint64Var(&s.rules.Seed, "simulate-seed", d.Seed, "another seed gives other delays, and lets other pods fail")
	return s
}

// setters returns, by the name of each flag about rules, what sets that flag's
// rule.
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

// check refuses values that are out of range, before anything is changed.
func (s *simulateFlags) check() error {
	if s.flags.Changed("simulate") && (s.count < 1 || s.count > maxSimulated) {
		return console.Usage(fmt.Errorf("--simulate %d: give a number from 1 to %d", s.count, maxSimulated))
	}
	if err := s.rules.Validate(); err != nil {
		return console.Usage(err)
	}
	return nil
}

// given reports whether the user gave any of the flags.
func (s *simulateFlags) given() bool {
	for name := range s.setters() {
		if s.flags.Changed(name) {
			return true
		}
	}
	return s.count > 0
}

// wanted is what the flags ask of the cluster.
func (s *simulateFlags) wanted() localcluster.Simulated {
	return localcluster.Simulated{Count: s.count, Given: s.given(), Over: s.over}
}

// over returns rules with the user's flags applied over them.
func (s *simulateFlags) over(rules fleet.Rules) fleet.Rules {
	for name, set := range s.setters() {
		if s.flags.Changed(name) {
			set(&rules)
		}
	}
	return rules
}

// simulatorCommand is the role of the simulator's process. It needs no rights on
// the machine, and has only the simulator's rights in the cluster.
func simulatorCommand(terminal *console.Console, cluster *target) *cobra.Command {
	c := &cobra.Command{
		Use: "simulator", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			release, err := datadir.Lock(localcluster.SimulatorLock(cluster.dataDir))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			rules, _, err := localcluster.ReadRules(cluster.dataDir)
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
			defer logfile.KeepOwn(os.Stderr, filepath.Join(cluster.dataDir, localcluster.SimulatorLogName), log)()
			return fleet.Run(c.Context(), fleet.Config{Client: config, Rules: rules, CertFile: access.CertFile, KeyFile: access.KeyFile, Log: log})
		},
	}
	cluster.addFlags(c)
	return c
}
