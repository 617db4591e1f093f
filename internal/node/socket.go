package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"everynode/internal/node/upstream"
)

// usualSocket is where programs of all kinds look for containerd.
const usualSocket = "/run/containerd/containerd.sock"

// secondSocket makes the node's containerd answer at a second path. The first
// one stays the kubelet's: a containerd that is installed later takes the usual
// path without asking.
//
// The socket belongs to the agent and not to containerd. So a pod that has mounted it
// still reaches containerd after a restart of containerd.
type secondSocket struct {
	path string
	to   string // containerd's own socket
	log  *slog.Logger
}

// ownsUsualSocket reports whether this node may use the usual path. It may not if the
// machine has a containerd of its own, whether that runs just now or not.
func (cfg Config) ownsUsualSocket() bool {
	if cfg.ContainerRuntimeEndpoint != "" {
		return false
	}
	if cfg.Local {
		return true // the folder is the node's
	}
	installed, err := exec.LookPath("containerd")
	return err != nil || filepath.Dir(installed) == cfg.RuntimeDir
}

// run carries connections until ctx ends.
func (s secondSocket) run(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil || listener == nil {
		return err
	}
	// Another process may put a socket of its own there, which is not ours to remove.
	listener.SetUnlinkOnClose(false)
	ours, err := os.Lstat(s.path)
	if err == nil {
		err = os.Chmod(s.path, 0o660)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("set up containerd's socket %s: %w", s.path, err), listener.Close())
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		client, err := listener.Accept()
		if ctx.Err() != nil {
			return removeSame(s.path, ours)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("accept a connection at %s: %w", s.path, err), listener.Close())
		}
		all.Go(func() { s.carry(ctx, client) })
	}
}

// listen listens at the path. If another program does so already, it waits until ctx
// ends instead, and returns nil.
func (s secondSocket) listen(ctx context.Context) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o711); err != nil {
		return nil, fmt.Errorf("make the folder of containerd's socket: %w", err)
	}
	if conn, err := net.Dial("unix", s.path); err == nil {
		conn.Close()
		s.log.Warn("another containerd has the usual socket; programs that look there do not find the pods of this node", "socket", s.path, "ours", s.to)
		<-ctx.Done()
		return nil, nil
	}
	// Nothing listens: an agent that was killed has left the socket.
	if st, err := os.Lstat(s.path); err == nil && st.Mode().Type() == fs.ModeSocket {
		if err := removeSame(s.path, st); err != nil {
			return nil, err
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at containerd's socket: %w", err)
	}
	return listener, nil
}

// removeSame removes a file unless another one has taken its place.
func removeSame(path string, known os.FileInfo) error {
	if now, err := os.Lstat(path); err != nil || !os.SameFile(now, known) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove our socket: %w", err)
	}
	return nil
}

// carry connects client with containerd until the connection ends. While containerd
// is down it closes the connection, and clients try again.
func (s secondSocket) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	up, err := (&net.Dialer{}).DialContext(ctx, "unix", s.to)
	if err != nil {
		s.log.Debug("containerd accepts no connection", "err", err)
		return
	}
	upstream.Carry(ctx, client, up)
}
