package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
)

// outputHolder keeps the output of each process with an input open until the process ends. It leaves the rest to the
// embedded service.
type outputHolder struct {
	taskapi.TTRPCTaskService
}

func (h *outputHolder) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, h)
	return nil
}

// Start starts a process. It opens the FIFOs before the process runs, because the process may close its output at
// once. It does not start a process whose output cannot be held, because its input would be cut off silently.
func (h *outputHolder) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	held, err := h.hold(ctx, r)
	if err != nil {
		return nil, err
	}
	started, err := h.TTRPCTaskService.Start(ctx, r)
	if err != nil {
		release(ctx, held)
		return nil, err
	}
	if len(held) > 0 {
		// The goroutine ends with the process, for which the service waits, or with this program.
		go h.releaseAfterExit(context.WithoutCancel(ctx), r, held)
	}
	return started, nil
}

// hold opens the FIFOs that take the output of a process, if it has an input. A terminal does not have this problem:
// the process reads from and writes to the same file.
func (h *outputHolder) hold(ctx context.Context, r *taskapi.StartRequest) ([]*os.File, error) {
	process, err := h.State(ctx, &taskapi.StateRequest{ID: r.ID, ExecID: r.ExecID})
	if err != nil {
		return nil, err
	}
	if process.Stdin == "" || process.Terminal {
		return nil, nil
	}
	var held []*os.File
	for _, path := range []string{process.Stdout, process.Stderr} {
		f, err := openFIFO(path)
		if err != nil {
			release(ctx, held)
			return nil, errgrpc.ToGRPC(fmt.Errorf("hold the output of process %q in container %s open, so that all of its input arrives: %w", r.ExecID, r.ID, err))
		}
		if f != nil {
			held = append(held, f)
		}
	}
	return held, nil
}

// openFIFO opens a FIFO for writing, or returns nil for anything else: output may go to a file or to a program. It
// opens it for reading as well, so that it need not wait for containerd to open the other end.
func openFIFO(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode()&fs.ModeNamedPipe == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
}

// releaseAfterExit closes what was held for a process once the process has ended.
func (h *outputHolder) releaseAfterExit(ctx context.Context, r *taskapi.StartRequest, held []*os.File) {
	// An error means that the process has been deleted already.
	_, _ = h.Wait(ctx, &taskapi.WaitRequest{ID: r.ID, ExecID: r.ExecID})
	release(ctx, held)
}

func release(ctx context.Context, held []*os.File) {
	for _, f := range held {
		if err := f.Close(); err != nil {
			log.G(ctx).WithError(err).Warnf("close %s, which was held open for a process", f.Name())
		}
	}
}
