package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"everynode/runtime/orphans"
)

// roleVariable makes the test binary act as the program under test.
const roleVariable = "PAUSE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "pause":
		signals := listen()
		fmt.Println("ready")
		orphans.Wait(signals)
	case "pause-with-orphans":
		if err := adoptOrphans(3); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		main()
	}
}

// adoptOrphans makes the process the parent of orphans below it, like PID 1 of a namespace, starts n of
// them that end as soon as standard input ends, and prints their pids.
func adoptOrphans(n int) error {
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return errno
	}
	for range n {
		// The shell ends at once; cat, which it leaves behind, is the orphan. A shell gives a background
		// command /dev/null as input unless told otherwise.
		sh := exec.Command("sh", "-c", "exec 3<&0; cat <&3 >/dev/null & echo $!")
		sh.Stdin, sh.Stdout, sh.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := sh.Run(); err != nil {
			return err
		}
	}
	return nil
}

// start runs the program in a role and returns it with its input and its output.
func start(t *testing.T, role string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewReader(out)
}

func TestEndsAtOnceWhenTold(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, _, out := start(t, "pause")
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("after %v: %v", sig, err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %v to end", took)
			}
		})
	}
}

func TestReapsOrphans(t *testing.T) {
	cmd, in, out := start(t, "pause-with-orphans")
	var orphans []int
	for range 3 {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		orphans = append(orphans, pid)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range orphans {
		poll(t, fmt.Sprintf("orphan %d is reaped", pid), func() bool {
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		})
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// poll waits until done returns true.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}
