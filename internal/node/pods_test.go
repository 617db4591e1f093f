package node

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// startingRuntime answers from the third question on.
type startingRuntime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	asked int
}

func (r *startingRuntime) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	if r.asked++; r.asked < 3 {
		return nil, status.Error(codes.Unavailable, "server is not initialized yet")
	}
	return &runtimeapi.ListPodSandboxResponse{}, nil
}

func TestWaitForRuntime(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, starting := grpc.NewServer(), &startingRuntime{}
	runtimeapi.RegisterRuntimeServiceServer(server, starting)
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	if err := waitForRuntime(t.Context(), "unix://"+socket); err != nil || starting.asked != 3 {
		t.Errorf("%v, asked %d times", err, starting.asked)
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := waitForRuntime(ctx, "unix://"+socket); err == nil {
		t.Error("nobody answers, and it is not told of")
	}
}
