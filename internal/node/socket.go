package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// usualSocket is where programs of all kinds look for containerd.
const usualSocket = "/run/containerd/containerd.sock"

// socketForwarder makes this node's containerd answer at a second socket, the
// usual one. A path of its own stays the kubelet's: another containerd that is
// installed later takes the usual path without asking.
//
// The socket is the agent's and not containerd's, so a pod that has mounted it
// reaches the next containerd as well when one ends.
type socketForwarder struct {
	listener *net.UnixListener
	made     os.FileInfo // the socket's file: another process may put its own there
	to       string
}

// newSocketForwarder listens at path for connections to the socket `to`. It
// returns nil when the path is another containerd's.
func newSocketForwarder(path, to string) (*socketForwarder, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of containerd's usual socket: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, conn.Close()
	}
	// Nobody listens there: it is what a killed process left.
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove a socket that nobody listens at: %w", err)
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at containerd's usual socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	f := &socketForwarder{listener: listener, to: to}
	if f.made, err = os.Lstat(path); err == nil {
		err = os.Chmod(path, 0o660)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up containerd's usual socket: %w", err), listener.Close())
	}
	return f, nil
}

// run carries connections until ctx ends, and removes the socket if it is still
// this one.
func (f *socketForwarder) run(ctx context.Context) error {
	path := f.listener.Addr().String()
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { f.listener.Close() })()
	for {
		client, err := f.listener.Accept()
		if ctx.Err() != nil {
			if now, err := os.Lstat(path); err == nil && os.SameFile(now, f.made) {
				return os.Remove(path)
			}
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("take a connection at %s: %w", path, err), f.listener.Close())
		}
		all.Go(func() { f.carry(ctx, client) })
	}
}

// carry connects client with containerd until one of them has enough. A client
// that comes while containerd is down is sent away, and comes again.
func (f *socketForwarder) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	up, err := (&net.Dialer{}).DialContext(ctx, "unix", f.to)
	if err != nil {
		return
	}
	c := &carried{client: client, up: up}
	defer c.cut()
	defer context.AfterFunc(ctx, c.cut)()
	c.copy()
}
