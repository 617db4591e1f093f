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
)

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
