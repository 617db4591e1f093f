package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
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

func listCommand(terminal *console.Console) *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the clusters of this machine and user",
		Long: `List the cluster without a name, those that were given one with --name, and those that
were started with --data-dir or EVERYNODE_DATA_DIR, until they are purged.`,
		Example: "  everynode list -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			others, err := clustersElsewhere(elsewhere())
			if err != nil {
				return err
			}
			rows, err := clustersIn(clusterDirs(append(others, dataDirFromEnv())))
			if err != nil {
				return err
			}
			return terminal.Print(output, rows, func() error { return clusterTable(terminal.Out, rows) })
		},
	}
	console.OutputFlag(c, &output)
	return c
}

func clusterTable(out io.Writer, rows []clusterRow) error {
	if len(rows) == 0 {
		fmt.Fprintln(out, "No clusters. Start one with: everynode up")
		return nil
	}
	t := console.NewTable(out, "NAME", "STATE", "NODES", "API", "CONTEXT", "DATA")
	for _, r := range rows {
		t.Row(console.OrNone(r.Name), r.State, fmt.Sprint(r.Nodes), console.OrNone(r.API), console.OrNone(r.Context), r.DataDir)
	}
	return t.Flush()
}

// clusterDirs are the folders that may hold a cluster, each once: those that have a
// name, and also others.
func clusterDirs(also []string) []string {
	dirs := []string{namedDir(defaultName)}
	if found, err := filepath.Glob(namedDir("*")); err == nil { // it fails for a bad pattern only
		dirs = append(dirs, found...)
	}
	seen := map[string]bool{}
	for _, dir := range also {
		real := dir
		if resolved, err := filepath.EvalSymlinks(dir); err == nil { // what is not there is skipped later
			real = resolved
		}
		if nameOf(dir) == "" && !seen[real] {
			dirs = append(dirs, dir)
		}
		seen[real] = true
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
