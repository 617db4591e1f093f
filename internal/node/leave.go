package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"everynode/internal/datadir"
	"everynode/internal/node/upstream"
)

// LeaveOptions says which node leaves, and how.
type LeaveOptions struct {
	DataDir      string
	Servers      []string      // URLs of API servers, besides those that the agent has remembered
	DrainTimeout time.Duration // how long the eviction of pods may take
	// Force ends pods that no controller recreates elsewhere or that may not be evicted,
	// and continues when no API server answers.
	Force bool

	// Step begins a step; the function that it returns says what was done.
	Step func() (done func(format string, args ...any))
	// Warn tells what the operator should know or do.
	Warn func(format string, args ...any)
}

// clientCertificate is the link to the kubelet's current certificate, in pki/.
const clientCertificate = "kubelet-client-current.pem"

// ErrNoAgent is returned for a directory without an agent's data.
var ErrNoAgent = errors.New("no agent's data")

// leaver is one run of Leave.
type leaver struct {
	LeaveOptions
	cfg     Config // of the agent, as its record has it
	record  machineRecord
	started bool // the agent has changed something on the machine

	cluster *drainer // nil: not joined, the Node does not exist, or no server answers
}

// Leave takes this machine out of its cluster, and removes from the machine what its
// agent has made. Pods move to other nodes, the agent stops, the remaining pods end, the
// Node is deleted, then rules, routes, links, mounts, cgroups, keys and data are deleted
// and kernel settings restored. What everynode did not make stays.
//
// Every step can be repeated: after an error or an interruption, the next Leave
// continues where this one stopped. It returns ErrNoAgent when there is nothing to
// leave.
func Leave(ctx context.Context, o LeaveOptions) (err error) {
	if err := checkSuperuser(); err != nil {
		return err
	}
	l, err := newLeaver(o)
	if err != nil {
		return err
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	if err := l.drain(ctx); err != nil {
		return err
	}
	if err := l.stopAgent(ctx); err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, step := range []func(context.Context) error{l.stopPods, l.deleteNode, l.clearMachine, l.deleteData} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// newLeaver finds out what there is to leave.
func newLeaver(o LeaveOptions) (*leaver, error) {
	dir, err := datadir.Find(o.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoAgent, o.DataDir)
	}
	if err != nil {
		return nil, err
	}
	if dir.Kind() != datadir.Agent {
		return nil, fmt.Errorf("%s is not the data directory of an agent: name the agent's with --data-dir", dir.Path)
	}
	if outer, err := datadir.Find(filepath.Dir(filepath.Dir(dir.Path))); err == nil && outer.Kind() == datadir.Up {
		return nil, fmt.Errorf("%s is a node of `everynode up`: remove it with everynode node rm %s", dir.Path, filepath.Base(dir.Path))
	}
	l := &leaver{LeaveOptions: o, cfg: Config{DataDir: dir.Path, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	l.record, err = readRecord(dir.Path)
	switch {
	case err == nil:
		l.started = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case exists(l.cfg.files().kubeletConfig()):
		return nil, fmt.Errorf("the agent of %s was last started by a release that did not record its changes to the machine: "+
			"start it once with this version of everynode, then leave", dir.Path)
	}
	l.cfg.Name, l.cfg.RuntimeDir = l.record.Name, l.record.RuntimeDir
	l.cfg.ContainerRuntimeEndpoint, l.cfg.CgroupRoot = l.record.Endpoint, l.record.CgroupRoot
	if len(o.Servers) > 0 {
		if l.cfg.hosts, err = upstream.Parse(o.Servers); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// connect finds an API server and the Node, if this machine has joined.
func (l *leaver) connect(ctx context.Context) error {
	// The kubelet writes its kubeconfig before it has a certificate.
	if !exists(l.cfg.files().kubeconfig()) || !exists(l.cfg.files().path("pki", clientCertificate)) {
		return nil
	}
	there, err := l.findNode(ctx)
	switch {
	case err == nil && !there:
		l.cluster = nil
		l.Step()("the cluster has no Node %s", l.cfg.Name)
		return nil
	case err == nil || ctx.Err() != nil:
		return ctx.Err()
	case l.Force:
		l.cluster = nil
		l.Warn("the cluster does not know that %s has left (%v): its Node and pods are still there. On a server: everynode kubectl delete node %s; "+
			"and, if somebody may have copied the keys of this machine: everynode node revoke %s", l.cfg.Name, err, l.cfg.Name, l.cfg.Name)
		return nil
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		return fmt.Errorf("the cluster refuses the credentials of this node: %w; nothing was changed. Drain it on a server: "+
			"everynode kubectl drain %s --ignore-daemonsets --delete-emptydir-data; then leave with --force", err, l.cfg.Name)
	}
	return fmt.Errorf("no API server answers: %w; nothing was changed. Try again when one does, name one with --server, "+
		"or leave without telling the cluster: --force", err)
}

// findNode makes the client, and reports whether the cluster has the Node.
func (l *leaver) findNode(ctx context.Context) (bool, error) {
	servers := slices.Concat(l.cfg.hosts, l.cfg.recall().Servers)
	if len(servers) == 0 {
		return false, errors.New("none is known")
	}
	if err := credentialsUsable(l.cfg.files().kubeconfig(), time.Now()); err != nil {
		return false, err
	}
	ca, err := l.cfg.files().knownCA()
	if err != nil {
		return false, err
	}
	client, err := upstream.DirectClient(l.cfg.files().kubeconfig(), ca, servers)
	if err != nil {
		return false, err
	}
	l.cluster = &drainer{node: l.cfg.Name, client: client, force: l.Force, within: l.DrainTimeout, say: l.Warn}
	return l.cluster.registered(ctx)
}

// drain moves pods to other nodes.
func (l *leaver) drain(ctx context.Context) error {
	if l.cluster == nil {
		return nil
	}
	if err := l.cluster.checkLonely(ctx); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	done := l.Step()
	if err := l.cluster.cordon(ctx); err != nil {
		return err
	}
	_, runs := datadir.Running(l.lockFile())
	if err := l.cluster.drain(ctx, runs); err != nil {
		return fmt.Errorf("%s is cordoned but not drained: %w", l.cfg.Name, err)
	}
	done("%s cordoned and drained", l.cfg.Name)
	return nil
}

// stopPods ends what a drain leaves: pods of DaemonSets, and static ones.
func (l *leaver) stopPods(ctx context.Context) error {
	if !l.started {
		return nil
	}
	done := l.Step()
	if err := l.stopPodsInOrder(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !l.Force {
			return fmt.Errorf("the remaining pods cannot be stopped cleanly: %w; see %s, or kill them with --force", err, l.cfg.files().path("containerd.log"))
		}
		l.Warn("killing the remaining pods, because they could not be stopped cleanly: %v", err)
	}
	done("pods stopped")
	return nil
}

// stopPodsInOrder has the container runtime stop the pods, and starts the runtime for
// that if it is the agent's.
func (l *leaver) stopPodsInOrder(ctx context.Context) error {
	if l.cfg.ContainerRuntimeEndpoint == "" {
		if !exists(l.cfg.files().containerdConfig()) {
			return nil // it never ran, or its data are deleted already
		}
		runtime := supervise(ctx, "containerd", l.cfg.Log, containerdProcess(l.cfg).run)
		defer runtime.stop()
	}
	waiting, cancel := context.WithTimeout(ctx, runtimeWithin/2)
	defer cancel()
	if err := waitForRuntime(waiting, l.cfg.endpoint()); err != nil {
		return err
	}
	return stopPods(ctx, l.cfg.endpoint(), asAsked, true)
}

// deleteNode deletes the Node. None of its pods runs at that point.
func (l *leaver) deleteNode(ctx context.Context) error {
	if l.cluster == nil {
		return nil
	}
	done := l.Step()
	kept, err := l.cluster.deleteNode(ctx)
	switch {
	case err != nil && l.Force:
		l.Warn("the Node still exists (%v): on a server, everynode kubectl delete node %s", err, l.cfg.Name)
	case err != nil:
		return fmt.Errorf("%w; the agent and its pods are stopped: run everynode agent leave again when a server answers, or with --force", err)
	case kept != "":
		l.Warn("the Node still exists: %s", kept)
	default:
		done("Node %s deleted", l.cfg.Name)
	}
	return nil
}

// deleteData deletes keys, images and logs, and last what marks the directory as an
// agent's.
func (l *leaver) deleteData(ctx context.Context) error {
	done := l.Step()
	dir, err := datadir.Find(l.cfg.DataDir)
	if err != nil {
		return err
	}
	left, err := l.deleteFiles()
	if err != nil {
		return fmt.Errorf("delete the agent's data: %w", err)
	}
	left = slices.DeleteFunc(left, func(name string) bool { return name == "lost+found" })
	switch {
	case len(left) > 0:
		l.Warn("kept %s, which contains files that are not everynode's: %v", dir.Path, left)
	case !dir.Made():
		done("emptied %s, which existed before the agent", dir.Path)
	default:
		if err := os.Remove(dir.Path); err != nil {
			return fmt.Errorf("delete the empty data directory: %w", err)
		}
		done("deleted %s", dir.Path)
	}
	return nil
}

// deleteFiles deletes the agent's files by their names, and returns the names of what is
// left.
func (l *leaver) deleteFiles() (left []string, err error) {
	remove, err := datadir.Remove(l.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove.Close()) }()
	// Without its configuration, Leave does not try to start a containerd that is half
	// deleted.
	err = remove.Files("containerd", filepath.Base(l.cfg.files().containerdConfig()))
	for _, tree := range []string{"containerd", "cni", "kubelet.d", "volume-plugins"} {
		err = errors.Join(err, remove.Tree(tree))
	}
	err = errors.Join(err,
		remove.Files("pki", append(kubeletFiles(), filepath.Base(l.cfg.files().ca()))...), remove.Tree(filepath.Join("pki", clientCertificate)),
		remove.Tree(filepath.Join("pki", "kubelet-server-current.pem")), remove.Folder("pki"),
		remove.Files(".", "kubelet.kubeconfig", "bootstrap.kubeconfig", "servers.json", "dropped-authorities.json", "cluster-dns", "kubelet.yaml", "kube-proxy.yaml", "resolv.conf",
			"containerd.log", "containerd.log.1", "kubelet.log", "kubelet.log.1", "kube-proxy.log", "kube-proxy.log.1", ".tmp-*"))
	if err != nil {
		return nil, err
	}
	err = errors.Join(remove.Files(".", recordName, filepath.Base(l.lockFile())), remove.Files(".", datadir.MarkName))
	if err != nil {
		return nil, err
	}
	return remove.Left()
}
