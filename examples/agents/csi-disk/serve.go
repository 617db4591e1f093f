package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
)

// readyTimeout limits the check whether the driver is ready.
const readyTimeout = 3 * time.Second

// serve runs the driver of a node until ctx ends or the kubelet refuses it. When it returns, both sockets are gone, so
// the kubelet knows that it has no driver. What is mounted stays mounted.
func serve(ctx context.Context, node string, at paths) error {
	volumes, err := openStore(at.volumes)
	if err != nil {
		return err
	}
	taken := new(atomic.Bool)
	driver := grpc.NewServer(grpc.ChainUnaryInterceptor(logFailures, oneAtATime()))
	csi.RegisterIdentityServer(driver, &identity{taken: taken})
	csi.RegisterControllerServer(driver, &controller{node: node, volumes: volumes})
	csi.RegisterNodeServer(driver, &nodeServer{
		node: node, volumes: volumes,
		mounter: &mount.SafeFormatAndMount{Interface: mount.New(""), Exec: exec.New()},
	})

	refused := make(chan error, 1)
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, &kubeletRegistration{endpoint: at.socket, taken: taken, refused: refused})

	group, ctx := errgroup.WithContext(ctx)
	// The kubelet calls the driver as soon as it sees the other socket.
	for _, part := range []struct {
		server *grpc.Server
		socket string
	}{{driver, at.socket}, {registrar, at.registration}} {
		listener, err := listen(ctx, part.socket)
		if err != nil {
			return errors.Join(err, stopAll(driver, registrar, group))
		}
		group.Go(func() error { return part.server.Serve(listener) })
	}
	group.Go(func() error {
		var err error
		select {
		case err = <-refused:
		case <-ctx.Done():
		}
		registrar.GracefulStop()
		driver.GracefulStop() // it finishes what is being mounted
		return err
	})
	klog.InfoS("csi-disk serves", "node", node, "socket", at.socket, "volumes", at.volumes)
	return group.Wait()
}

func stopAll(driver, registrar *grpc.Server, group *errgroup.Group) error {
	registrar.Stop()
	driver.Stop()
	return group.Wait()
}

// listen creates a socket that only root can use. It replaces one that a previous driver may have left when it was
// killed.
func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of the driver before: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen for the kubelet: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep others from the socket: %w", err), listener.Close())
	}
	return listener, nil
}

// logFailures logs the errors that callers get, because callers put them into events, which expire.
func logFailures(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, request)
	if err != nil {
		klog.ErrorS(err, "A call has failed", "method", info.FullMethod)
	}
	return answer, err
}

// oneAtATime refuses a call that changes a volume while another one does. A kubelet that has restarted, or timed out,
// repeats a call that is still running, and a volume that is formatted twice at once is lost. As CSI requires, the
// caller tries again.
func oneAtATime() grpc.UnaryServerInterceptor {
	busy := new(sync.Map) // names of volumes
	return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		name := changes(request)
		if name == "" {
			return handle(ctx, request)
		}
		if _, is := busy.LoadOrStore(name, nil); is {
			return nil, status.Errorf(codes.Aborted, "another call for the volume %s is at work; try again when it has ended", name)
		}
		defer busy.Delete(name)
		return handle(ctx, request)
	}
}

// changes returns the name of the volume that a call creates, deletes, mounts or unmounts; it is empty for all other
// calls.
func changes(request any) string {
	switch r := request.(type) {
	case *csi.CreateVolumeRequest:
		return r.GetName()
	case *csi.DeleteVolumeRequest:
		return r.GetVolumeId()
	case *csi.NodeStageVolumeRequest:
		return r.GetVolumeId()
	case *csi.NodeUnstageVolumeRequest:
		return r.GetVolumeId()
	case *csi.NodePublishVolumeRequest:
		return r.GetVolumeId()
	case *csi.NodeUnpublishVolumeRequest:
		return r.GetVolumeId()
	}
	return ""
}

// ready asks the driver at a socket whether the kubelet has registered it.
func ready(ctx context.Context, socket string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("make a client of the driver: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	answer, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	if err != nil {
		return fmt.Errorf("ask the driver: %w", err)
	}
	if !answer.GetReady().GetValue() {
		return fmt.Errorf("the kubelet has not taken the driver yet: it looks for sockets in plugins_registry below its root directory")
	}
	return nil
}
