package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"everynode/internal/controlplane"
	"everynode/internal/datadir"
)

// purge deletes what everynode has made in the data directory, and the
// directory if that is all. What tells of the cluster goes last, so that a purge
// that was interrupted can be repeated.
func (cmd downCommand) purge(m *machine, p *progress) error {
	done := p.step()
	dir, err := m.markedDir()
	if err != nil {
		return err
	}
	unmounted, err := m.UnmountData()
	for _, mount := range unmounted {
		fmt.Fprintf(cmd.Err, "warning: unmounted %s, and left alone what is on it\n", mount)
	}
	if err != nil {
		return err
	}
	if err := m.forget(); err != nil {
		fmt.Fprintf(cmd.Err, "warning: %v\n", err)
	}
	left, err := m.deleteData()
	if err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	switch {
	case len(left) > 0:
		return fmt.Errorf("%s holds files that are not everynode's, and was kept: %s", m.DataDir, strings.Join(left, ", "))
	case !dir.Made():
		done("emptied %s, which was there before the cluster", m.DataDir)
		return nil
	}
	if err := os.Remove(m.DataDir); err != nil {
		return fmt.Errorf("delete the empty data directory: %w", err)
	}
	// The folder of clusters with names goes with the last of them.
	if parent := filepath.Dir(m.DataDir); parent == filepath.Dir(namedDir("any")) {
		if err := os.Remove(parent); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("delete the folder of clusters: %w", err)
		}
	}
	done("deleted %s", m.DataDir)
	return nil
}

// markedDir returns the data directory with its mark. One of a release without
// marks gets its mark now.
func (m *machine) markedDir() (*datadir.Dir, error) {
	dir, err := datadir.Find(m.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return datadir.Claim(m.DataDir, datadir.Up)
	}
	return dir, err
}

// deleteData deletes by the names of our layout, and returns what is left then.
func (m *machine) deleteData() (left []string, err error) {
	remove, err := datadir.Remove(m.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove.Close()) }()
	nodes, err := m.nodeDirs()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, tree := range append(nodes, filepath.Join("etcd", "data"), filepath.Join("registry", "images")) {
		errs = append(errs, remove.Tree(tree))
	}
	errs = append(errs,
		remove.Files("etcd", "etcd.sock"),
		remove.Files("registry", "ca.crt", "ca.crt.new", "nodes.yaml"),
		remove.Files("images", "*.tar", "*.tar.gz", "*.tgz", ".load-*"),
		remove.Files("pki", controlplane.KeyFiles()...),
		remove.Files(controlplane.AuditDir, controlplane.AuditFiles()...),
		remove.Files(".", controlplane.PlainFiles()...),
		remove.Files(".", "server.lock", "server.log", "server.log.1", "join-token", "registries.yaml", "kubelet.yaml", "simulate.json", "simulator.lock", "simulator.log", "simulator.log.1",
			"registry.lock", "registry.log", "registry.log.1", "writable"))
	for _, folder := range []string{controlplane.AuditDir, "etcd", "images", "nodes", "pki", "registry", "snapshots", "volume-plugins"} {
		errs = append(errs, remove.Folder(folder))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// The record and the mark go last, after all that they tell of.
	err = errors.Join(remove.Files(".", "cluster.json", "change.lock"), remove.Files(".", datadir.MarkName))
	if err != nil {
		return nil, err
	}
	left, err = remove.Left()
	return slices.DeleteFunc(left, func(name string) bool { return name == "lost+found" }), err
}

// nodeDirs are the folders of nodes, relative to the data directory: those in
// the record, and those that carry a node's mark.
func (m *machine) nodeDirs() ([]string, error) {
	var names []string
	for _, n := range m.Nodes {
		names = append(names, n.Name)
	}
	entries, err := os.ReadDir(filepath.Join(m.DataDir, "nodes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the nodes' folders: %w", err)
	}
	for _, e := range entries {
		if dir, err := datadir.Find(m.NodeDir(e.Name())); err == nil && dir.Kind() == datadir.Agent && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	for i, name := range names {
		names[i] = filepath.Join("nodes", name)
	}
	return names, nil
}
