package e2e_test

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain runs the tests in a network of their own, so that they neither see nor change that of the machine. The test's own
// program is also a member of etcd: scripts run it as etcd-member.
func TestMain(m *testing.M) {
	// A shell may make background processes ignore interrupts. Programs that inherit this from the tests could not be interrupted
	// at all.
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	if !isProgramOfScripts() {
		prepareTests()
	}
	testscript.Main(m, map[string]func(){etcdMemberName: etcdMember})
}

// prepareTests returns in the process that runs the tests, and exits in the one that only waits for it.
func prepareTests() {
	if wantsOwnNetwork() {
		code, err := runInOwnNetwork()
		exitOn(err)
		os.Exit(code)
	}
	if os.Getenv(outsideNetwork) != "" {
		exitOn(prepareOwnNetwork())
	}
	// Whatever the user's settings are, the ordinary user of a script can reach what the tests make, and socket paths are short.
	syscall.Umask(0o022)
	exitOn(os.Setenv("TMPDIR", "/tmp"))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the end-to-end tests:", err)
		os.Exit(1)
	}
}
