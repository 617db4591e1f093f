package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/atomicfile"
	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/local"
)

const (
	simulatorGrace = 10 * time.Second
	// SimulatorLogName is the name of its log, in the data directory.
	SimulatorLogName = "simulator.log"
)

// Simulator is the process that plays the kubelets of a cluster's simulated nodes.
type Simulator struct{ exe, dataDir string }

// Simulator is the cluster's simulator, whether it has simulated nodes or not.
func (c *Cluster) Simulator() *Simulator { return &Simulator{c.exe, c.DataDir} }

// Lock is the lock file that the process holds while it runs.
func (s *Simulator) Lock() string { return SimulatorLock(s.dataDir) }

// SimulatorLock is the simulator's lock file in a data directory.
func SimulatorLock(dataDir string) string { return filepath.Join(dataDir, "simulator.lock") }

// Log is its log.
func (s *Simulator) Log() string { return filepath.Join(s.dataDir, SimulatorLogName) }

func rulesFile(dataDir string) string { return filepath.Join(dataDir, "simulate.json") }

// process describes the process that plays the kubelets of simulated nodes.
func (s *Simulator) process() local.Process {
	return local.Process{
		Name:     "simulator",
		Argv:     []string{s.exe, "simulator", "--data-dir", s.dataDir},
		Log:      s.Log(),
		LockFile: s.Lock(),
	}
}

// DefaultRules are the rules of simulated nodes that the user gave no rules for.
func DefaultRules() fleet.Rules {
	return fleet.Rules{Start: 2 * time.Second, Ready: time.Second, Stop: time.Second, Jitter: 0.2, Seed: 1}
}

// ReadRules reads the rules of a cluster with simulated nodes. In a cluster
// without, simulates is false, and the rules are the default ones.
func ReadRules(dataDir string) (rules fleet.Rules, simulates bool, err error) {
	data, err := os.ReadFile(rulesFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultRules(), false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &rules)
	}
	if err != nil {
		return rules, false, fmt.Errorf("read the rules of the simulated nodes: %w; delete %s to start over with the usual ones", err, rulesFile(dataDir))
	}
	return rules, true, nil
}

// Run changes the rules and starts the simulator, unless it already runs with
// these rules.
func (s *Simulator) Run(ctx context.Context, change func(fleet.Rules) fleet.Rules) error {
	old, simulates, err := ReadRules(s.dataDir)
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
		if err := atomicfile.Write(rulesFile(s.dataDir), append(after, '\n')); err != nil {
			return fmt.Errorf("write the rules of the simulated nodes: %w", err)
		}
		if err := s.Stop(ctx); err != nil {
			return err
		}
	}
	if _, ok := datadir.Running(s.Lock()); ok {
		return nil
	}
	_, err = local.Spawn(ctx, s.process())
	return err
}

// Stop stops the process.
func (s *Simulator) Stop(ctx context.Context) error {
	return local.Stop(ctx, s.Lock(), simulatorGrace)
}

// muster adds the nodes that are missing, and waits until there are at least want
// nodes, and all of them that are not switched off have been reported Ready since
// begin and take pods. It prints the count, and returns how many there are.
func (s *Simulator) muster(ctx context.Context, p *console.Progress, client kubernetes.Interface, missing []*corev1.Node, want int, begin time.Time) (n int, err error) {
	r := newMuster(begin)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return r.watch(watching, client) })
	making, mctx := errgroup.WithContext(watching)
	making.Go(func() error { return fleet.Add(mctx, client, missing, r.room) })
	making.Go(func() (err error) {
		n, err = r.wait(mctx, want, s.runs, p.Counter())
		return err
	})
	err = making.Wait()
	stop()
	if err = errors.Join(err, g.Wait()); err != nil {
		p.EndCount()
	}
	var late *lateError
	if errors.As(err, &late) {
		late.log = s.Log()
	}
	return n, err
}

// runs returns an error if the simulator does not run.
func (s *Simulator) runs() error {
	if _, ok := datadir.Running(s.Lock()); !ok {
		return fmt.Errorf("the simulator ended: %s\nIts log is %s", local.LastError(s.Log()), s.Log())
	}
	return nil
}

// WaitOne waits until the simulated node of this name takes pods.
func (s *Simulator) WaitOne(ctx context.Context, client kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline)
	defer cancel()
	last := "it has not been reported Ready"
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := s.runs(); err != nil {
			return false, err
		}
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			last = err.Error()
			return false, nil
		}
		return takesPods(node, time.Time{}), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the simulated node %s is not Ready after %s: %s; the simulator's log is %s", name, nodeDeadline, last, s.Log())
	}
	return err
}
