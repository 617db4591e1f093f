// Package e2e_test runs the real everynode, from outside, on real nodes.
//
// Each script in testdata is one topic and reads like a session at a terminal: lines are commands, `stdout`
// and `stderr` check what the last one printed, and a leading `!` says that a command must fail. The commands
// that are not testscript's own are in commandTable. Every script in testdata has its own data directory, and
// so its own cluster; nothing of it may be left afterwards. Those in testdata/shared find a cluster of three
// nodes, which they leave as it was.
//
// The scripts need root on Linux and a built everynode: EVERYNODE_BIN names the folder, by default the bin
// next to this package's folder. They run one after the other and take half an hour in all, so give `go test`
// a -timeout.
package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	bin := needMachine(t)
	runScripts(t, testscript.Params{
		Dir:   "testdata",
		Setup: func(env *testscript.Env) error { return setUp(env, bin, "") },
	})
	runShared(t, bin, filepath.Join("testdata", "shared"))
}

// conditions are the conditions of scripts. [free:PORT]: nothing used the port, on any address, when this was
// first asked. A cluster that is up beside the tests uses it. [NAME]: this is the condition that the test has
// named. [long]: EVERYNODE_LONG is set. [loop]: the kernel has loop devices. [previous]: there is a version
// to upgrade from, in the folder $PREVIOUS (make upgrade).
func conditions(holds string) func(condition string) (bool, error) {
	var mu sync.Mutex
	known := map[string]bool{}
	return func(condition string) (bool, error) {
		switch condition {
		case onKubeadm:
			return condition == holds, nil
		case "long":
			return os.Getenv("EVERYNODE_LONG") != "", nil
		case "previous":
			return os.Getenv("EVERYNODE_PREVIOUS") != "", nil
		case "loop":
			_, err := os.Stat("/dev/loop-control")
			return err == nil, nil
		}
		port, ok := strings.CutPrefix(condition, "free:")
		if !ok {
			return false, fmt.Errorf("there is no condition %q", condition)
		}
		mu.Lock()
		defer mu.Unlock()
		if free, ok := known[port]; ok {
			return free, nil
		}
		l, err := net.Listen("tcp", ":"+port)
		known[port] = err == nil
		if err != nil {
			return false, nil
		}
		return true, l.Close()
	}
}

// TestStockKubectl runs the article again with the kubectl that is installed on this machine, if any.
func TestStockKubectl(t *testing.T) {
	bin := needMachine(t)
	stock, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on PATH")
	}
	if real, err := filepath.EvalSymlinks(stock); err == nil && filepath.Dir(real) == bin {
		t.Skip("the kubectl on PATH is everynode's own")
	}
	runScripts(t, testscript.Params{
		Files: []string{filepath.Join("testdata", "article.txtar")},
		Setup: func(env *testscript.Env) error { return setUp(env, bin, stock) },
	})
}

// needMachine skips the test where real nodes cannot run, and returns the folder
// of the everynode to test.
func needMachine(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("end-to-end tests skipped: nodes need Linux")
	}
	if os.Geteuid() != 0 {
		t.Skip("end-to-end tests skipped: nodes need root")
	}
	if testing.Short() {
		t.Skip("end-to-end tests skipped: -short")
	}
	bin := os.Getenv("EVERYNODE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "everynode")); err != nil {
		t.Fatalf("no everynode to test: %v; run `make build`, or set EVERYNODE_BIN to its folder", err)
	}
	return bin
}

func runScripts(t *testing.T, p testscript.Params) {
	t.Helper()
	p.Cmds = commandTable()
	if p.Condition == nil {
		p.Condition = conditions("")
	}
	p.RequireUniqueNames = true
	if deadline, ok := t.Deadline(); ok {
		p.Deadline = deadline
	}
	testscript.RunT(sequential{t}, p)
}

// sequential makes testscript run one script at a time: two clusters would
// compete for the machine, and each looks for what the other leaves behind.
type sequential struct{ *testing.T }

func (sequential) Parallel() {}

func (sequential) Verbose() bool { return testing.Verbose() }

func (s sequential) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(sequential{t}) })
}

// setUp gives a script its environment. With stock, the script calls that kubectl, and KUBECONFIG points it
// at the script's cluster.
func setUp(env *testscript.Env, bin, stock string) error {
	// The path is short because the paths of Unix sockets below it must be.
	data, err := os.MkdirTemp("", "ev")
	if err != nil {
		return err
	}
	if err := setVariables(env, bin, data); err != nil {
		return errors.Join(err, os.Remove(data))
	}
	if stock != "" {
		dir := filepath.Join(env.WorkDir, ".stock")
		text := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", stock) // a link would not find the files next to stock
		if err := writeProgram(dir, "kubectl", text); err != nil {
			return err
		}
		env.Setenv("PATH", dir+string(filepath.ListSeparator)+env.Getenv("PATH"))
		env.Setenv("KUBECONFIG", adminConfig(data))
	}
	c, err := newCluster(env, bin, data)
	if err != nil {
		return errors.Join(err, os.Remove(data))
	}
	env.Values[clusterKey{}] = c
	env.Defer(c.tearDown)
	return nil
}

// setVariables gives a script what every script has: its programs, a home, and the
// names of folders.
func setVariables(env *testscript.Env, bin, data string) error {
	repository, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	tools, home := filepath.Join(env.WorkDir, ".tools"), filepath.Join(env.WorkDir, ".home")
	if err := errors.Join(writeProgram(tools, "on", onMachine), os.Mkdir(home, 0o700)); err != nil {
		return err
	}
	for name, value := range variables(bin, data, home) {
		env.Setenv(name, value)
	}
	for name, value := range map[string]string{
		"PATH":       bin + string(filepath.ListSeparator) + tools + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"BIN":        bin,
		"REPOSITORY": repository,
		"EXAMPLES":   filepath.Join(repository, "examples"),
		"DEPLOY":     filepath.Join(repository, "deploy"),
		"IMAGES":     filepath.Join(bin, "runtime", "images"),
		"DATA":       data,
		"PREVIOUS":   filepath.Join(os.Getenv("EVERYNODE_PREVIOUS"), "bin"),
	} {
		env.Setenv(name, value)
	}
	return nil
}

// variables are the environment of an everynode with this data directory.
func variables(bin, data, home string) map[string]string {
	return map[string]string{
		"PATH":               bin + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"HOME":               home,
		"XDG_STATE_HOME":     filepath.Join(home, "state"),
		"EVERYNODE_DATA_DIR": data,
	}
}

func writeProgram(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)
}
