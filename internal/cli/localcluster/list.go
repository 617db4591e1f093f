package localcluster

import (
	"os"
	"path/filepath"

	"everynode/internal/local"
)

// Row is a cluster of this machine, as `list` prints it.
type Row struct {
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

// Dirs returns the folders that may have a cluster, each once: the directories of
// names, and the others in also.
func Dirs(also []string) []string {
	dirs := []string{NamedDir(DefaultName)}
	if found, err := filepath.Glob(NamedDir("*")); err == nil { // it fails only for a bad pattern
		dirs = append(dirs, found...)
	}
	seen := map[string]bool{}
	for _, dir := range also {
		real := dir
		if resolved, err := filepath.EvalSymlinks(dir); err == nil { // a folder that does not exist is skipped later
			real = resolved
		}
		if NameOf(dir) == "" && !seen[real] {
			dirs = append(dirs, dir)
		}
		seen[real] = true
	}
	return dirs
}

// Rows are the clusters in those of the folders that have one.
func Rows(dirs []string) ([]Row, error) {
	rows := []Row{}
	for _, dir := range dirs {
		if IsServerFolder(dir) {
			rows = append(rows, Row{Name: NameOf(dir), DataDir: dir, State: "server"})
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cluster.json")); err != nil {
			continue
		}
		c, err := local.Open(dir)
		if err != nil {
			rows = append(rows, Row{Name: NameOf(dir), DataDir: dir, State: err.Error()})
			continue
		}
		m, err := New(c)
		if err != nil {
			return nil, err
		}
		rows = append(rows, Row{Name: NameOf(dir), DataDir: dir, State: stateOf(m), Nodes: len(m.Nodes), API: m.ServerURL(), Context: ContextName(dir, m.ID)})
	}
	return rows, nil
}

// stateOf is the cluster's state as `list` prints it.
func stateOf(c *Cluster) string {
	switch some, all := c.Running(); {
	case all:
		return "running"
	case some:
		return "partly running"
	default:
		return "stopped"
	}
}
