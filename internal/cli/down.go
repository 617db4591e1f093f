package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"everynode/internal/local"
)

func (a *app) downCommand() *cobra.Command {
	purge := false
	c := &cobra.Command{
		Use:        "down",
		SuggestFor: []string{"stop", "delete", "destroy", "rm"},
		Short:      "Stop the cluster of this machine",
		Long: `Stop pods, nodes and control plane, in this order, and take away every namespace, link,
mount and cgroup. The data directory stays, and 'everynode up' brings the same cluster
back, unless --purge is given.`,
		Example: `  everynode down
  everynode down --purge    # and delete the cluster's data`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.down(c.Context(), purge) },
	}
	a.dataDirFlag(c)
	c.Flags().BoolVar(&purge, "purge", false, "delete the data directory too: etcd, keys, images, logs")
	return c
}

func (a *app) down(ctx context.Context, purge bool) error {
	if _, err := local.Open(a.dataDir); errors.Is(err, local.ErrNoCluster) {
		if pid, runs := local.Running(serverLockOf(a.dataDir)); runs {
			return fmt.Errorf("%s is the folder of `everynode server`: stop that process (pid %d), or its service", a.dataDir, pid)
		}
		fmt.Fprintf(a.out, "No cluster in %s: nothing to stop.\n", a.dataDir)
		return nil
	}
	m, release, err := a.change()
	if err != nil {
		return err
	}
	defer release()
	p := newProgress(a.out)
	if err := a.stopAll(ctx, m, p); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before everything was stopped: run `everynode down` again for the rest")
		}
		return fmt.Errorf("not everything could be stopped; run `everynode down` again: %w", err)
	}
	if !purge {
		return nil
	}
	done := p.step()
	if err := m.purge(); err != nil {
		return err
	}
	done("deleted %s", m.DataDir)
	return nil
}

// stopAll takes the cluster out of the user's kubeconfig, stops the nodes, then the
// control plane, and then takes the network away. Every step is tried.
func (a *app) stopAll(ctx context.Context, m *machine, p *progress) error {
	// First: nobody is to be sent to an address that will soon be a stranger's.
	if err := dropContext(ctx, m.DataDir, m.contextName(a.dataDir), userFiles()); err != nil {
		fmt.Fprintf(a.err, "warning: the context %s is still in your kubeconfig: %v\n", m.contextName(a.dataDir), err)
	}
	errs, simulator := make([]error, len(m.Nodes)), error(nil)
	var nodes sync.WaitGroup
	for i, n := range m.Nodes {
		nodes.Go(func() {
			done := p.step()
			_, ran := local.Running(m.agentLock(n.Name))
			errs[i] = errors.Join(m.stopNode(ctx, n), m.RemoveNode(ctx, n.Name, false))
			if ran && errs[i] == nil {
				done("%s stopped", n.Name)
			}
		})
	}
	nodes.Go(func() {
		done := p.step()
		_, ran := local.Running(m.simulatorLock())
		if simulator = m.stopSimulator(ctx); ran && simulator == nil {
			done("simulated nodes stopped")
		}
	})
	nodes.Wait()
	done := p.step()
	err := errors.Join(errors.Join(errs...), simulator, m.stopServer(ctx), m.RemoveHost(ctx))
	switch {
	case err == nil && m.Loopback:
		done("control plane stopped")
	case err == nil:
		done("control plane stopped, network removed")
	}
	return err
}

// purge deletes what everynode has written to the data directory, and the
// directory if nothing else is in it.
func (m *machine) purge() error {
	names := []string{"cluster.json", "pki", "etcd", "admin.kubeconfig", "server.lock", "server.log",
		"images", "nodes", "version", "volume-plugins", "join-token", "change.lock",
		"simulate.json", "simulator.lock", "simulator.log"}
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(m.DataDir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	left, err := os.ReadDir(m.DataDir)
	if err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("the cluster's data is deleted, but not %s: it also holds %s, which everynode did not make; delete that by hand if you do not need it", m.DataDir, namesOf(left))
	}
	if err := os.Remove(m.DataDir); err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	// The folder of clusters with names goes with the last of them.
	if parent := filepath.Dir(m.DataDir); parent == filepath.Dir(namedDir("any")) {
		if err := os.Remove(parent); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("delete the folder of clusters: %w", err)
		}
	}
	return nil
}

// namesOf names the first few of the entries of a folder.
func namesOf(entries []os.DirEntry) string {
	const most = 5
	var names []string
	for _, e := range entries[:min(len(entries), most)] {
		names = append(names, e.Name())
	}
	text := strings.Join(names, ", ")
	if more := len(entries) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
