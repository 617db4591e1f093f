package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"everynode/internal/datadir"
)

const (
	childEnv  = "EVERYNODE_TEST_CHILD"
	testLimit = 30 * time.Second
)

// TestMain makes the test binary act as the processes that the tests start.
func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		if err := child(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(mode string, args []string) error {
	switch mode {
	case "enter": // PINS CGROUP ARGV...
		return Enter(args[0], args[1], args[2:])
	case "daemon", "stubborn": // LOCKFILE
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		release, err := datadir.Lock(args[0])
		if err != nil {
			return err
		}
		fmt.Println("ready")
		if <-term; mode == "stubborn" {
			select {}
		}
		return release()
	case "become": // LOCKFILE
		return Become(args[0], []string{"/bin/sleep", "1000"})
	case "broken":
		fmt.Println("error: an earlier one\nerror: the disk is full\nsome more words")
		return errors.New("the port is in use")
	case "hang":
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGUSR2)
		<-never
	}
	return fmt.Errorf("no such child: %s", mode)
}

func childProcess(t *testing.T, mode string, dir string) Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "x.lock")
	return Process{Name: "test process", Argv: []string{exe, lock}, Env: append(os.Environ(), childEnv+"="+mode),
		Log: filepath.Join(dir, "x.log"), LockFile: lock}
}

func TestSpawnAndStop(t *testing.T) {
	for _, mode := range []string{"daemon", "stubborn"} {
		t.Run(mode, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), testLimit)
			defer cancel()
			t.Setenv("TMPDIR", t.TempDir())
			p := childProcess(t, mode, t.TempDir())
			if _, ok := datadir.Running(p.LockFile); ok {
				t.Error("runs before it was started")
			}
			pid, err := Spawn(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := datadir.Running(p.LockFile); !ok || got != pid {
				t.Errorf("Running = %d, %v; want %d", got, ok, pid)
			}
			if sid, err := syscall.Getpgid(pid); err != nil || sid != pid {
				t.Errorf("process group is %d, %v; want its own, %d", sid, err, pid)
			}
			if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
				t.Errorf("working directory is %q, %v; want /", cwd, err)
			}
			if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || strings.Contains(string(env), "TMPDIR=") {
				t.Errorf("its environment has the caller's TMPDIR, which may not last: %v", err)
			}
			if st, err := os.Stat(p.Log); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("log: %v, %v; want mode 0600", st, err)
			}
			_, err = Spawn(ctx, p)
			checkError(t, err, fmt.Sprintf("is locked by process %d", pid))
			if err := Stop(ctx, p.LockFile, 200*time.Millisecond); err != nil {
				t.Error(err)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
			if err := WaitExit(ctx, p.LockFile); err != nil {
				t.Error(err)
			}
			if err := Stop(ctx, p.LockFile, time.Second); err != nil {
				t.Errorf("the second Stop: %v", err)
			}
		})
	}
}

// A program that knows nothing about locks runs with the lock of the process that it replaced.
func TestBecome(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	p := childProcess(t, "become", t.TempDir())
	pid, err := Spawn(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	err = waitFor(ctx, func() (bool, error) {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return string(name) == "sleep\n", err
	})
	if got, ok := datadir.Running(p.LockFile); err != nil || !ok || got != pid {
		t.Errorf("Running = %d, %v; want %d; %v", got, ok, pid, err)
	}
	if err := Stop(ctx, p.LockFile, time.Second); err != nil {
		t.Error(err)
	}
	if got, ok := datadir.Running(p.LockFile); ok {
		t.Errorf("%d holds the lock of a process that has ended", got)
	}
}

func TestSpawnFails(t *testing.T) {
	dir := t.TempDir()
	p := childProcess(t, "broken", dir)
	if err := os.WriteFile(p.Log, []byte("error: of the last run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Spawn(t.Context(), p)
	checkError(t, err, "start the test process: the port is in use (exit status 1; log: "+p.Log)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Spawn(ctx, childProcess(t, "hang", dir))
	checkError(t, err, "it took no lock")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v does not say that the time is over", err)
	}
	p.Argv = []string{filepath.Join(dir, "missing")}
	_, err = Spawn(t.Context(), p)
	checkError(t, err, "no such file")
}

func TestLastError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"": "", "a\nb\n\n": "b", "error: x\nb": "x", "error: x\nerror:  y \nz": "y", "an error: no": "an error: no",
		"error: old\n" + strings.Repeat("x\n", maxLogTail): "x",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastError(file, 0); got != want {
			t.Errorf("lastError = %q, want %q", got, want)
		}
	}
}

// A pid in a lock file is not proof: it may belong to another process by now.
func TestRunningIgnoresStrangers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.lock")
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sleep.Process.Kill(); err != nil {
			t.Errorf("the stranger was killed: %v", err)
		}
		_ = sleep.Wait()
	}()
	for _, text := range []string{fmt.Sprint(sleep.Process.Pid), "", "x", "-1", "0", "4194304999"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, ok := datadir.Running(file); ok || !datadir.Stopped(file) {
			t.Errorf("%q: Running = %d, Stopped = %v", text, pid, datadir.Stopped(file))
		}
		if err := Stop(t.Context(), file, time.Second); err != nil {
			t.Error(err)
		}
	}
}

func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.lock")
	if !datadir.Stopped(file) {
		t.Error("not Stopped, although nobody has ever locked the file")
	}
	release, err := datadir.Lock(file)
	if err != nil {
		t.Fatal(err)
	}
	var locked *datadir.LockedError
	if _, err := datadir.Lock(file); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("the second Lock: %v; want a LockedError with this process's id", err)
	}
	if pid, ok := datadir.Running(file); !ok || pid != os.Getpid() || datadir.Stopped(file) {
		t.Errorf("Running = %d, %v, Stopped = %v; want this process", pid, ok, datadir.Stopped(file))
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, ok := datadir.Running(file); ok {
		t.Error("Running after release")
	}
	release, err = datadir.Lock(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
