package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"everynode/internal/logfile"
)

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// TestMain makes the test binary act as an agent and as its child.
func TestMain(m *testing.M) {
	switch os.Getenv("EVERYNODE_TEST_ROLE") {
	case "agent": // starts a child, prints its id, and waits to be killed
		child := process{path: os.Args[0], env: append(os.Environ(), "EVERYNODE_TEST_ROLE=child"), log: os.Getenv("EVERYNODE_TEST_LOG")}
		fmt.Fprintln(os.Stderr, child.run(context.Background()))
		os.Exit(1)
	case "child":
		// Before the id is printed, because from then on the test may end this
		// process. If nothing could wake it, Go would report a deadlock.
		end := make(chan os.Signal, 1)
		signal.Notify(end, unix.SIGTERM)
		fmt.Println("pid", os.Getpid())
		<-end
		os.Exit(0)
	case "limits":
		if err := printChildsLimit(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "broken":
		fmt.Println("E1123 22:00:00.000000       1 x.go:1] \"it broke\"")
		fmt.Println("a last word")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func TestSuperviseBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var starts []time.Duration
		s := supervise(t.Context(), "child", discard(), func(ctx context.Context) error {
			starts = append(starts, time.Since(began))
			if len(starts) == 8 { // long enough to count as healthy
				time.Sleep(healthyAfter)
			}
			return errors.New("broken")
		})
		time.Sleep(190 * time.Second)
		s.stop()
		sec := time.Second
		want := []time.Duration{
			0, 1 * sec, 3 * sec, 7 * sec, 15 * sec, 31 * sec, 61 * sec, 91 * sec,
			152 * sec, 154 * sec, 158 * sec, 166 * sec, 182 * sec,
		}
		if diff := cmp.Diff(want, starts); diff != "" {
			t.Errorf("starts (-want +got):\n%s", diff)
		}
	})
}

func TestSuperviseStopsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		s := supervise(ctx, "child", discard(), func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		cancel()
		synctest.Wait()
		if ended {
			t.Error("the end of the agent's context ended the child: the agent stops its children in order")
		}
		s.stop()
		if !ended {
			t.Error("stop returned before the child was gone")
		}
	})
	(*service)(nil).stop() // a service that was never started counts as stopped
}

func TestProcessExitIsExplained(t *testing.T) {
	log := filepath.Join(t.TempDir(), "child.log")
	if err := os.WriteFile(log, []byte("E0000 of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := process{path: os.Args[0], env: append(os.Environ(), "EVERYNODE_TEST_ROLE=broken"), log: log}
	err := p.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("run: %v, want its exit status and its last error line", err)
	}
}

func TestProcessStops(t *testing.T) {
	log := filepath.Join(t.TempDir(), "child.log")
	ctx, cancel := context.WithCancel(t.Context())
	p := process{path: os.Args[0], env: append(os.Environ(), "EVERYNODE_TEST_ROLE=child"), log: log}
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	pid := awaitPID(t, log)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run after its context ended: %v", err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
}

// An agent that is killed takes its children with it, although nothing of it runs
// that could stop them.
func TestChildDiesWithAgent(t *testing.T) {
	log := filepath.Join(t.TempDir(), "child.log")
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), "EVERYNODE_TEST_ROLE=agent", "EVERYNODE_TEST_LOG="+log)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	child := awaitPID(t, log)
	fd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err == nil {
		t.Error("the agent ended by itself, it should have been killed")
	}
	// The pidfd becomes readable when the child has ended.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if err != nil || n != 1 {
		t.Errorf("the child %d outlived its agent by 10 s (%v)", child, err)
	}
}

// awaitPID reads the id that a child writes into its log.
func awaitPID(t *testing.T, log string) int {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		f, err := os.Open(log)
		if err == nil {
			line, _ := bufio.NewReader(f).ReadString('\n')
			f.Close()
			if pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "pid "))); err == nil {
				return pid
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no child wrote its id into %s", log)
	return 0
}

func TestLargeLogIsSetAside(t *testing.T) {
	log := filepath.Join(t.TempDir(), "child.log")
	if err := os.WriteFile(log, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, logfile.Limit+1); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("new log has %d bytes (%v), want none", info.Size(), err)
	}
	if info, err := os.Stat(log + ".1"); err != nil || info.Size() != logfile.Limit+1 {
		t.Errorf("the old log is not there as it was: %v", err)
	}
}
