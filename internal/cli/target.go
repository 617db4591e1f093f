package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

// target is the cluster that a command is for: the one in the data directory that flags or the environment name.
type target struct {
	dataDir string
	err     io.Writer // for warnings
}

// addFlags adds --data-dir and --name.
func (t *target) addFlags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&t.dataDir, "data-dir", localcluster.DataDirFromEnv(), "where the cluster's state is kept (EVERYNODE_DATA_DIR)")
	c.PersistentFlags().Var(&clusterName{dataDir: &t.dataDir}, "name", "name of the cluster, of several: chooses the data directory")
	console.ChoosesCluster(c.PersistentFlags(), "data-dir", "name")
	console.CompleteFlag(c, "name", completeClusters)
}

// open reads the cluster in the data directory.
func (t *target) open() (*localcluster.Cluster, error) { return localcluster.Open(t.dataDir) }

// lock keeps other commands from changing the same cluster at the same time.
func (t *target) lock() (release func(), err error) { return localcluster.Lock(t.dataDir, t.err) }

// contextName is the name of the cluster's context in kubeconfigs.
func (t *target) contextName(m *localcluster.Cluster) string {
	return localcluster.ContextName(t.dataDir, m.ID)
}

// stop takes the cluster out of the user's kubeconfig, and stops everything of it that runs.
func (t *target) stop(ctx context.Context, m *localcluster.Cluster, p *console.Progress) error {
	// This comes first: the address may soon belong to another program, and nobody must be sent there.
	if err := dropContext(ctx, m.DataDir, t.contextName(m), userFiles()); err != nil {
		fmt.Fprintf(t.err, "warning: the context %s is still in your kubeconfig: %v\n", t.contextName(m), err)
	}
	return m.Stop(ctx, p, t.err)
}

// change opens the cluster for a command that changes it. release lets the next such command in.
func (t *target) change() (m *localcluster.Cluster, release func(), err error) {
	return t.changeBy(localcluster.Open)
}

// changeBy is change with another way to open the cluster.
func (t *target) changeBy(open func(dataDir string) (*localcluster.Cluster, error)) (m *localcluster.Cluster, release func(), err error) {
	if m, err = open(t.dataDir); err != nil {
		return nil, nil, err
	}
	// A cluster on loopback has only files and processes on this machine.
	if os.Geteuid() != 0 && !m.Loopback {
		return nil, nil, errors.New("this changes namespaces, links and mounts, which needs root: run it with sudo")
	}
	release, err = t.lock()
	if err != nil {
		return nil, nil, err
	}
	if m, err = open(t.dataDir); err != nil {
		release()
		return nil, nil, err
	}
	return m, release, nil
}

// clusterName is the value of --name, which names a data directory.
type clusterName struct {
	name    string
	dataDir *string
}

func (n *clusterName) String() string { return n.name }

// Set takes what the user typed after --name.
func (n *clusterName) Set(name string) error {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return fmt.Errorf("give at most %d lower case letters, digits and hyphens, with a letter or digit first and last", validation.DNS1123LabelMaxLength)
	}
	n.name, *n.dataDir = name, localcluster.NamedDir(name)
	return nil
}

// Type is what --help shows for the value.
func (n *clusterName) Type() string { return "string" }
