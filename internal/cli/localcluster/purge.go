package localcluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"everynode/internal/cli/console"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
)

// deletion deletes a cluster's data, and tells the user.
type deletion struct {
	cluster  *Cluster
	progress *console.Progress
	warnings io.Writer
}

// Purge deletes what everynode has made in the data directory, and the directory
// itself if nothing else is in it. The cluster's record goes last, so that an
// interrupted purge can be repeated.
func (c *Cluster) Purge(p *console.Progress, warnings io.Writer) error {
	return deletion{c, p, warnings}.run()
}

func (d deletion) run() error {
	done := d.progress.Step()
	dir, err := d.markedDir()
	if err != nil {
		return err
	}
	unmounted, err := d.cluster.Host().UnmountData()
	for _, mount := range unmounted {
		fmt.Fprintf(d.warnings, "warning: unmounted %s, and left alone what is on it\n", mount)
	}
	if err != nil {
		return err
	}
	if err := forget(d.cluster.Cluster); err != nil {
		fmt.Fprintf(d.warnings, "warning: %v\n", err)
	}
	left, err := d.data()
	if err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	switch {
	case len(left) > 0:
		return fmt.Errorf("%s holds files that are not everynode's, and was kept: %s", d.cluster.DataDir, strings.Join(left, ", "))
	case !dir.Made():
		done("emptied %s, which was there before the cluster", d.cluster.DataDir)
		return nil
	}
	if err := os.Remove(d.cluster.DataDir); err != nil {
		return fmt.Errorf("delete the empty data directory: %w", err)
	}
	// The folder of named clusters is deleted with the last of them.
	if parent := filepath.Dir(d.cluster.DataDir); parent == filepath.Dir(NamedDir("any")) {
		if err := os.Remove(parent); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("delete the folder of clusters: %w", err)
		}
	}
	done("deleted %s", d.cluster.DataDir)
	return nil
}

// markedDir returns the data directory with its mark. A directory from a release
// without marks gets its mark now.
func (d deletion) markedDir() (*datadir.Dir, error) {
	dir, err := datadir.Find(d.cluster.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return datadir.Claim(d.cluster.DataDir, datadir.Up)
	}
	return dir, err
}

// data deletes what has the names of our layout, and returns what is left.
func (d deletion) data() (left []string, err error) {
	remove, err := datadir.Remove(d.cluster.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove.Close()) }()
	nodes, err := d.nodeDirs()
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
		remove.Files(".", "server.lock", "server.log", "server.log.1", "join-token", "registries.yaml", "kubelet.yaml", "containerd.toml", "simulate.json", "simulator.lock", "simulator.log", "simulator.log.1",
			"registry.lock", "registry.log", "registry.log.1", "writable"))
	for _, folder := range []string{controlplane.AuditDir, "etcd", "images", "nodes", "pki", "registry", "snapshots", "volume-plugins"} {
		errs = append(errs, remove.Folder(folder))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// The record and the mark go last, after everything that they describe.
	err = errors.Join(remove.Files(".", "cluster.json", "change.lock"), remove.Files(".", datadir.MarkName))
	if err != nil {
		return nil, err
	}
	left, err = remove.Left()
	return slices.DeleteFunc(left, func(name string) bool { return name == "lost+found" }), err
}

// nodeDirs returns the folders of nodes, relative to the data directory: those
// in the record, and those that have a node's mark.
func (d deletion) nodeDirs() ([]string, error) {
	var names []string
	for _, n := range d.cluster.Nodes {
		names = append(names, n.Name)
	}
	entries, err := os.ReadDir(filepath.Join(d.cluster.DataDir, "nodes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the nodes' folders: %w", err)
	}
	for _, e := range entries {
		if dir, err := datadir.Find(d.cluster.NodeDir(e.Name())); err == nil && dir.Kind() == datadir.Agent && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	for i, name := range names {
		names[i] = filepath.Join("nodes", name)
	}
	return names, nil
}
