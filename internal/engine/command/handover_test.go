package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"everynode/internal/why"
)

// What is printed, and whether the engine may go: a DaemonSet that nobody would update is reported, and does not prevent
// it.
func TestHandoverIsTold(t *testing.T) {
	left := why.Handover{Namespace: "a", Name: "left", Phase: "Idle", NobodyUpdates: true}
	applied := why.Handover{Namespace: "a", Name: "applied", Phase: "Waiting", Updates: 5, AtATime: 2, NobodyUpdates: true, WhenApplied: true}
	rolled := why.Handover{Namespace: "a", Name: "rolled", Phase: "Rolling", Updates: 3, AtATime: 1}
	rested := why.Handover{Namespace: "a", Name: "rested", Phase: "Idle", Updates: 3, AtATime: 1, Because: "nodes wait"}
	for _, c := range []struct {
		all  []why.Handover
		err  error
		says []string
		not  string
	}{
		{nil, nil, []string{"No pod would move: no release is under way"}, "Nobody"},
		{[]why.Handover{left}, nil, []string{"No pod would move.", "Nobody would update these any more, as they are OnDelete: a/left. "}, "DAEMONSET"},
		{[]why.Handover{left, applied}, ErrWouldUpdate, []string{"a/applied   Waiting   5              2", "OnDelete: a/left, a/applied. "}, "No pod"},
		{[]why.Handover{rolled}, ErrWouldMove, []string{"a/rolled    Rolling   3              1"}, "Nobody"},
		{[]why.Handover{rested}, ErrWouldMove, []string{"a/rested    Idle      3              1", "\na/rested: nodes wait.\n"}, "No pod"},
		{[]why.Handover{applied, rolled}, ErrWouldMove, []string{"a/applied", "a/rolled"}, "No pod"},
	} {
		var b strings.Builder
		if err := printHandovers(&b, c.all, ""); err != nil {
			t.Fatal(err)
		}
		for _, says := range c.says {
			if !strings.Contains(b.String(), says) {
				t.Errorf("%+v: nothing says %q:\n%s", c.all, says, b.String())
			}
		}
		if strings.Contains(b.String(), c.not) {
			t.Errorf("%+v: it says %q:\n%s", c.all, c.not, b.String())
		}
		if err := notYet(c.all); !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, want %v", c.all, err, c.err)
		}
	}
}

// A wrong call has an exit code of its own: 1 means that pods would move, or that it is not known.
func TestHandoverCalledWrongly(t *testing.T) {
	unreachable := func(string) (*rest.Config, error) { return nil, errors.New("no cluster") }
	for args, want := range map[string]int{
		"":                  2,
		"--check here":      2,
		"--check -o jsn":    2,
		"--check --on-delt": 2,
		"--check -o json":   1,
		"--check":           1,
		"--help":            0,
	} {
		root := &cobra.Command{Use: "everynode-controller", SilenceErrors: true, SilenceUsage: true}
		root.SetFlagErrorFunc(WrongCall)
		root.AddCommand(NewHandover(unreachable))
		root.SetOut(io.Discard)
		root.SetArgs(append([]string{"handover"}, strings.Fields(args)...))
		if err := root.ExecuteContext(t.Context()); ExitCode(err) != want {
			t.Errorf("handover %s: %v, exit code %d, want %d", args, err, ExitCode(err), want)
		}
	}
}

func TestHandoverIsCompleted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind": "NamespaceList", "apiVersion": "v1", "items": [{"metadata": {"name": "apps"}}, {"metadata": {"name": "default"}}]}`)
	}))
	defer server.Close()
	of := func(kubeconfig string) (*rest.Config, error) {
		if kubeconfig != "there" {
			return nil, errors.New("no cluster")
		}
		return &rest.Config{Host: server.URL}, nil
	}
	for args, want := range map[string]string{
		"--check -o ":                    "json\nyaml\n:4\n",
		"--check --kubeconfig there -n ": "apps\ndefault\n:4\n",
		"--check -n ":                    ":4\n",
		"--check ":                       ":4\n",
	} {
		root, out := &cobra.Command{Use: "everynode-controller"}, strings.Builder{}
		root.AddCommand(NewHandover(of))
		root.SetOut(&out)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{"__complete", "handover"}, strings.Split(args, " ")...))
		if err := root.ExecuteContext(t.Context()); err != nil || out.String() != want {
			t.Errorf("handover %s is completed by %q, %v, want %q", args, out.String(), err, want)
		}
	}
}
