package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
)

// fakeService is a task service whose only process ends when told to.
type fakeService struct {
	taskapi.TTRPCTaskService
	process *taskapi.StateResponse
	start   func() error
	ended   chan struct{}
}

func (s *fakeService) State(context.Context, *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	return s.process, nil
}

func (s *fakeService) Start(context.Context, *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	return &taskapi.StartResponse{}, s.start()
}

func (s *fakeService) Wait(ctx context.Context, _ *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	select {
	case <-s.ended:
		return &taskapi.WaitResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fixture returns a process with FIFOs, whose read ends are open, as in containerd.
func fixture(t *testing.T) (*fakeService, []*os.File) {
	t.Helper()
	var readers []*os.File
	dir := t.TempDir()
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		path := filepath.Join(dir, name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		readers = append(readers, r)
	}
	return &fakeService{
		process: &taskapi.StateResponse{Stdin: readers[0].Name(), Stdout: readers[1].Name(), Stderr: readers[2].Name()},
		start:   func() error { return nil },
		ended:   make(chan struct{}),
	}, readers[1:]
}

// atEnd reports whether the FIFO is at its end. With a writer, a read that finds nothing would block.
func atEnd(t *testing.T, fifo *os.File) bool {
	t.Helper()
	conn, err := fifo.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if rerr := conn.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), make([]byte, 1))
		return true
	}); rerr != nil {
		t.Fatal(rerr)
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	return err == nil && n == 0
}

func TestOutputIsHeldWhileTheProcessRuns(t *testing.T) {
	service, outputs := fixture(t)
	// The process closes its output before Start returns.
	service.start = func() error {
		for _, out := range outputs {
			w, err := os.OpenFile(out.Name(), os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := (&outputHolder{TTRPCTaskService: service}).Start(ctx, &taskapi.StartRequest{ID: "c", ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	cancel() // the call has ended, the process has not
	for _, out := range outputs {
		if atEnd(t, out) {
			t.Errorf("%s is at its end while the process runs: containerd stops passing input on", filepath.Base(out.Name()))
		}
	}
	close(service.ended)
	for _, out := range outputs {
		if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
			t.Errorf("%s after the process has ended: %q, %v; want the end", filepath.Base(out.Name()), rest, err)
		}
	}
}

func TestOutputIsNotHeld(t *testing.T) {
	failure := errors.New("no such program")
	for name, change := range map[string]func(*fakeService){
		"without an input":              func(s *fakeService) { s.process.Stdin = "" },
		"of a terminal":                 func(s *fakeService) { s.process.Terminal = true },
		"of a process that never began": func(s *fakeService) { s.start = func() error { return failure } },
	} {
		t.Run(name, func(t *testing.T) {
			service, outputs := fixture(t)
			change(service)
			_, err := (&outputHolder{TTRPCTaskService: service}).Start(t.Context(), &taskapi.StartRequest{ID: "c"})
			if err != nil && err != failure {
				t.Fatalf("%v; want the service's own error, which containerd knows", err)
			}
			for _, out := range outputs {
				if !atEnd(t, out) {
					t.Errorf("%s is held open", filepath.Base(out.Name()))
				}
			}
		})
	}
}

// Output need not go to a FIFO: the shim can write it to files, and start a program that reads it.
func TestOutputElsewhere(t *testing.T) {
	service, _ := fixture(t)
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	service.process.Stdout, service.process.Stderr = file, "binary:///usr/bin/logger?x=y"
	held, err := (&outputHolder{TTRPCTaskService: service}).hold(t.Context(), &taskapi.StartRequest{ID: "c"})
	if err != nil || len(held) > 0 {
		t.Errorf("held %v, %v; want nothing", held, err)
	}
}
