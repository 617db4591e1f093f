package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// executions is the variable that makes TestHeldWhileExecuting execute itself so many times.
const executions = "EVERYNODE_TEST_EXECUTIONS"

// A process that holds a lock still holds it at each moment in which another of its threads than the first executes
// a program.
func TestHeldWhileExecuting(t *testing.T) {
	if left, err := strconv.Atoi(os.Getenv(executions)); err == nil {
		executeAgain(t, left)
		return
	}
	const times = 60
	file := filepath.Join(t.TempDir(), "lock")
	c := exec.Command(os.Args[0], "-test.run=^TestHeldWhileExecuting$")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", executions, times), "LOCK="+file)
	c.Stderr = os.Stderr
	input, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	held, gaps := 0, 0
	for {
		if _, err := os.Stat(file + ".done"); err == nil {
			break
		}
		switch is := Holds(c.Process.Pid, file); {
		case is:
			held++
		case held > 0:
			gaps++
		case isZombie(c.Process.Pid):
			t.Fatalf("it has ended before it held the lock: %v", c.Wait())
		}
	}
	if err := errors.Join(input.Close(), c.Wait()); err != nil || held < times || gaps > 0 {
		t.Errorf("seen held %d times, and not held %d times in between; %v", held, gaps, err)
	}
}

// executeAgain executes this test so many times more, from a thread that is not the first.
func executeAgain(t *testing.T, left int) {
	if os.Getenv("LOCKED") == "" {
		if err := LockForExec(os.Getenv("LOCK")); err != nil {
			t.Fatal(err)
		}
	}
	if left == 0 {
		if err := os.WriteFile(os.Getenv("LOCK")+".done", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Setenv(executions, strconv.Itoa(left-1))
	t.Setenv("LOCKED", "yes")
	env := os.Environ()
	failed := make(chan error)
	execute := func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			failed <- nil
			select {} // it keeps the first thread
		}
		failed <- syscall.Exec(os.Args[0], os.Args, env)
	}
	for range 2 {
		go execute()
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}

// A process that has ended but was not waited for has a folder in /proc, into which
// only root may look, and holds nothing.
func TestZombiesAreTold(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ended.Wait(); err != nil {
			t.Error(err)
		}
	}()
	limit := time.After(10 * time.Second)
	for tick := time.NewTicker(time.Millisecond); !isZombie(ended.Process.Pid); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it has not ended, or is not told for a zombie")
		}
	}
	if isZombie(os.Getpid()) {
		t.Error("this process is told for a zombie")
	}
}
