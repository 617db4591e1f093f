package verbs

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"everynode/internal/cli/console"
)

// TestMain lets scripts run this package's commands as everynode.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		console.Everynode: func() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// exits CODE PROGRAM ARGS...: run a program that must end with this code.
			"exits": exits,
			// releases FILE [MODE...]: start an API server with these objects, and write the file
			// "kubeconfig".
			"releases": releases,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("%v, want exit code %s", err, args[0])
	}
}
