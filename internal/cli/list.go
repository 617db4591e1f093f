package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"everynode/internal/local"
)

// clusterRow is a cluster of this machine, as `list` prints it.
type clusterRow struct {
	Name    string `json:"name,omitempty"`
	DataDir string `json:"dataDir"`
	// State is "running", "stopped", "partly running", "server", or what is wrong
	// with its record.
	State string `json:"state"`
	// Nodes is how many real nodes it has.
	Nodes   int    `json:"nodes"`
	API     string `json:"api,omitempty"`
	Context string `json:"context,omitempty"`
}

func (a *app) listCommand() *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the clusters of this machine and user",
		Long: `List the cluster without a name, those that were given one with --name, and that of
EVERYNODE_DATA_DIR. One that was started with --data-dir is found by nothing else.`,
		Example: "  everynode list -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			rows, err := clustersIn(clusterDirs(dataDirFromEnv()))
			if err != nil {
				return err
			}
			return a.print(output, rows, func() error { return a.clusterTable(rows) })
		},
	}
	a.outputFlag(c, &output)
	return c
}

func (a *app) clusterTable(rows []clusterRow) error {
	if len(rows) == 0 {
		fmt.Fprintln(a.out, "No clusters. Start one with: everynode up")
		return nil
	}
	t := newTable(a.out, "NAME", "STATE", "NODES", "API", "CONTEXT", "DATA")
	for _, r := range rows {
		t.row(orNone(r.Name), r.State, fmt.Sprint(r.Nodes), orNone(r.API), orNone(r.Context), r.DataDir)
	}
	return t.flush()
}

// clusterDirs are the folders that may hold a cluster: also, what is named.
func clusterDirs(also string) []string {
	dirs := []string{namedDir(defaultName)}
	if found, err := filepath.Glob(namedDir("*")); err == nil { // it fails for a bad pattern only
		dirs = append(dirs, found...)
	}
	if nameOf(also) == "" {
		dirs = append(dirs, also)
	}
	return dirs
}

func clustersIn(dirs []string) ([]clusterRow, error) {
	rows := []clusterRow{}
	for _, dir := range dirs {
		if isServerFolder(dir) {
			rows = append(rows, clusterRow{Name: nameOf(dir), DataDir: dir, State: "server"})
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cluster.json")); err != nil {
			continue
		}
		c, err := local.Open(dir)
		if err != nil {
			rows = append(rows, clusterRow{Name: nameOf(dir), DataDir: dir, State: err.Error()})
			continue
		}
		m, err := newMachine(c)
		if err != nil {
			return nil, err
		}
		rows = append(rows, clusterRow{Name: nameOf(dir), DataDir: dir, State: m.state(), Nodes: len(m.Nodes), API: m.serverURL(), Context: m.contextName(dir)})
	}
	return rows, nil
}

func (m *machine) state() string {
	switch some, all := m.running(); {
	case all:
		return "running"
	case some:
		return "partly running"
	default:
		return "stopped"
	}
}
