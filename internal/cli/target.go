package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// target is the cluster that a command means: the one in the data directory that flags or the environment name.
type target struct {
	dataDir string
	err     io.Writer // for warnings
}

// addFlags adds --data-dir and --name.
func (t *target) addFlags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&t.dataDir, "data-dir", dataDirFromEnv(), "where the cluster's state is kept (EVERYNODE_DATA_DIR)")
	c.PersistentFlags().Var(&clusterName{dataDir: &t.dataDir}, "name", "name of the cluster, of several: chooses the data directory")
}

// open reads the cluster in the data directory.
func (t *target) open() (*machine, error) {
	c, err := local.Open(t.dataDir)
	switch {
	case errors.Is(err, local.ErrNoCluster) && isServerFolder(t.dataDir):
		return nil, fmt.Errorf("%s is the folder of `everynode server`, whose nodes are machines of their own: `everynode status` and `everynode kubectl get nodes` show them", t.dataDir)
	case errors.Is(err, local.ErrNoCluster):
		return nil, noCluster(t.dataDir)
	case errors.Is(err, fs.ErrPermission):
		return nil, unreadable(t.dataDir, err)
	case err != nil:
		return nil, err
	}
	return newMachine(c)
}

// recover stands in for open where the record is lost or broken.
func (t *target) recover() (*machine, error) {
	c, err := local.Recover(t.dataDir)
	if err != nil {
		return nil, err
	}
	return newMachine(c)
}

// change opens the cluster for a command that changes it; release lets the next
// such command in.
func (t *target) change() (m *machine, release func(), err error) { return t.changeBy(t.open) }

// changeBy is change with another way to open the cluster.
func (t *target) changeBy(open func() (*machine, error)) (m *machine, release func(), err error) {
	if m, err = open(); err != nil {
		return nil, nil, err
	}
	// A cluster on loopback has nothing on this machine but files and processes.
	if os.Geteuid() != 0 && !m.Loopback {
		return nil, nil, errors.New("this changes namespaces, links and mounts, which needs root: run it with sudo")
	}
	release, err = t.lock()
	if err != nil {
		return nil, nil, err
	}
	if m, err = open(); err != nil {
		release()
		return nil, nil, err
	}
	return m, release, nil
}

// lock keeps other commands from changing the same cluster at the same time.
func (t *target) lock() (release func(), err error) {
	unlock, err := datadir.Lock(filepath.Join(t.dataDir, "change.lock"))
	var locked *datadir.LockedError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("another everynode command (pid %d) is changing the cluster in %s: wait until it is done", locked.PID, t.dataDir)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		if err := unlock(); err != nil {
			fmt.Fprintf(t.err, "warning: unlock %s: %v\n", t.dataDir, err)
		}
	}, nil
}

// config is the way to the cluster of a kubeconfig; without one, to that of this
// machine.
func (t *target) config(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return adminConfig(t.dataDir)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("%s is not a kubeconfig: %w", kubeconfig, err)
	}
	return config, nil
}

// completeNodes completes the names of nodes on the shell.
func (t *target) completeNodes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	m, err := t.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, n := range m.Nodes {
		if !slices.Contains(args, n.Name) {
			names = append(names, n.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
