package e2e_test

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain runs the tests in a network of their own, so that they neither see nor change that of the machine. The test's own program
// is a member of etcd as well: scripts run it as etcd-member.
func TestMain(m *testing.M) {
	// A shell may have the tests in the background ignore interrupts, and programs that inherit that could not be interrupted at all.
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	if !isProgramOfScripts() {
		prepareTests()
	}
	testscript.Main(m, map[string]func(){etcdMemberName: etcdMember})
}

// prepareTests returns in the process that is to run the tests, and ends the one that only waits for it.
func prepareTests() {
	if wantsOwnNetwork() {
		code, err := runInOwnNetwork()
		exitOn(err)
		os.Exit(code)
	}
	if os.Getenv(outsideNetwork) != "" {
		exitOn(prepareOwnNetwork())
	}
	// Whatever the user's settings are, an ordinary user of a script reaches what the tests make, and the paths of sockets are short.
	syscall.Umask(0o022)
	exitOn(os.Setenv("TMPDIR", "/tmp"))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the end-to-end tests:", err)
		os.Exit(1)
	}
}
