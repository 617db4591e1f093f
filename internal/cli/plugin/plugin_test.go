package plugin

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
)

// cluster answers like an API server with two nodes, and a DaemonSet in each of two namespaces.
type cluster struct {
	mu    sync.Mutex
	asked []string
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, r.URL.Path)
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	list := func(kind, version string, names ...string) {
		var items []string
		for _, name := range names {
			items = append(items, fmt.Sprintf(`{"metadata": {"name": %q}}`, name))
		}
		fmt.Fprintf(w, `{"kind": "%sList", "apiVersion": %q, "items": [%s]}`, kind, version, strings.Join(items, ", "))
	}
	switch r.URL.Path {
	case "/api/v1/nodes":
		list("Node", "v1", "node-1", "node-2")
	case "/api/v1/namespaces":
		list("Namespace", "v1", "apps", "default")
	case "/apis/apps/v1/namespaces/apps/daemonsets":
		list("DaemonSet", "apps/v1", "agent")
	case "/apis/apps/v1/namespaces/default/daemonsets":
		list("DaemonSet", "apps/v1", "other")
	case "/api/v1/namespaces/apps/pods":
		list("Pod", "v1")
	case "/apis/apps/v1/namespaces/apps/controllerrevisions":
		list("ControllerRevision", "apps/v1")
	case "/apis/everynode.io/v1alpha1/namespaces/apps/daemonsetrollouts", "/apis/everynode.io/v1alpha1/rolloutpolicies":
		http.NotFound(w, r) // the cluster does not have these kinds
	default:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "%s is forbidden; try everynode why"}`, r.URL.Path)
	}
}

// start makes the environment name a cluster, with the contexts "main" and "apps", and returns the cluster.
func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: main, clusters: [{name: c, cluster: {server: %q}}],
		contexts: [{name: main, context: {cluster: c}}, {name: apps, context: {cluster: c, namespace: apps}}]}`, server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	return c
}

func run(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = Main(args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestCompletion(t *testing.T) {
	start(t)
	for line, want := range map[string]string{
		"why |":                        "node-1 node-2",
		"why ds/|":                     "ds/other",
		"why node-1 |":                 "other",
		"why ds/other |":               "",
		"why ds/ -n apps |":            "",
		"why -n apps ds/|":             "ds/agent",
		"why apps/|":                   "apps/agent",
		"why node-1 apps/|":            "apps/agent",
		"why -n other apps/|":          "",
		"watch daemonset.apps/|":       "daemonset.apps/other",
		"watch |":                      "other",
		"watch --context apps ds/|":    "ds/agent",
		"watch -n |":                   "apps default",
		"audit --context |":            "apps main",
		"plan -o |":                    "wide json yaml",
		"fleet --kubeconfig /none -n ": "",
	} {
		words := strings.Fields(strings.TrimSuffix(line, "|"))
		if strings.HasSuffix(line, " |") || strings.HasSuffix(line, " ") {
			words = append(words, "")
		}
		code, out, errs := run(append([]string{"/usr/bin/" + completeName + ".exe"}, words...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		got := strings.Join(lines[:len(lines)-1], " ")
		if code != 0 || got != want || !strings.HasPrefix(lines[len(lines)-1], ":") {
			t.Errorf("%s: %q, want %q (exit code %d, %s)", line, got, want, code, errs)
		}
	}
}

// A DaemonSet that is named without a namespace is looked up in the context's namespace.
func TestNamespaceOfContext(t *testing.T) {
	for context, want := range map[string]string{"main": "default", "apps": "apps"} {
		c := start(t)
		code, _, errs := run(pluginName, "watch", "agent", "--once", "--context", context)
		if code != 1 || !slices.ContainsFunc(c.asked, func(path string) bool { return strings.Contains(path, "/namespaces/"+want+"/") }) {
			t.Errorf("%s: exit code %d, %s; asked %q", context, code, errs, c.asked)
		}
	}
}

// The check before an uninstall asks the cluster that kubectl asks, and says which one that was.
func TestHandoverOfContext(t *testing.T) {
	c := start(t)
	code, out, errs := run(pluginName, "handover", "--check", "-n", "apps", "--context", "apps")
	if want := regexp.MustCompile(`^API server: http://127.0.0.1:\d+\nNo pod would move`); code != 0 || !want.MatchString(out) {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	if !slices.Contains(c.asked, "/apis/apps/v1/namespaces/apps/daemonsets") {
		t.Errorf("asked %q", c.asked)
	}
	if code, _, errs := run(pluginName, "handover"); code != 2 || !strings.Contains(errs, "See 'kubectl everynode handover --help'") {
		t.Errorf("without --check: exit code %d, %s", code, errs)
	}
}

// A command that is printed has the flags that chose the cluster. A token is not printed: others may read it.
func TestPrintedCommandsNameTheCluster(t *testing.T) {
	start(t)
	code, _, errs := run(pluginName, "rollout", "status", "ds/agent", "-v", "--context", "apps", "--as", "auditor", "--token", "s3cret")
	want := "kubectl get daemonsetrollout --namespace apps agent --output yaml --as=auditor --context=apps\n"
	if code != 3 || !strings.HasPrefix(errs, want) || strings.Contains(errs, "s3cret") {
		t.Errorf("exit code %d, %s; want %s", code, errs, want)
	}
}

func TestErrors(t *testing.T) {
	start(t)
	for _, c := range []struct {
		program, line, want string
		code                int
	}{
		{pluginName, "why node-1", "; try kubectl everynode why", 1},
		{aloneName, "why node-1", "; try everynode-ctl why", 1},
		{pluginName, "audits", `unknown command "audits" for "kubectl everynode"; did you mean audit?`, 2},
		{pluginName, "watch", "See 'kubectl everynode watch --help'", 2},
		{pluginName, "audit --context none", "context was not found for specified context: none", 2},
		{pluginName, "audit -f a --context main", "exclude each other", 2},
	} {
		code, _, errs := run(append([]string{c.program}, strings.Fields(c.line)...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s %s: exit code %d, %s; want %d, %s", c.program, c.line, code, errs, c.code, c.want)
		}
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	if _, _, errs := run(pluginName, "fleet"); !strings.Contains(errs, "no cluster is configured: give --kubeconfig") {
		t.Errorf("without a kubeconfig: %s", errs)
	}
}

// plan calls the kubectl in the path, for the same cluster.
func TestPlanAsksKubectl(t *testing.T) {
	start(t)
	dir := t.TempDir()
	manifest := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(manifest, []byte("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if _, _, errs := run(pluginName, "plan", "-f", manifest); !strings.Contains(errs, "kubectl must be in the path") {
		t.Errorf("without kubectl: %s", errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\necho \"error: called with $*\" >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, errs := run(pluginName, "plan", "-f", manifest, "--context", "apps", "--as", "auditor", "--as-group", "a", "--as-group", "b")
	for _, want := range []string{"--context=apps", "--as=auditor", "--as-group=a --as-group=b", " apply --dry-run=server"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%s: %s is not in it", errs, want)
		}
	}
	if _, _, errs := run(pluginName, "plan", "-f", manifest, "--token", "s3cret"); strings.Contains(errs, "s3cret") || !strings.Contains(errs, "put it into a kubeconfig") {
		t.Errorf("with a token: %s", errs)
	}
}

// Users can type the commands that a help text shows.
func TestHelpNamesThePlugin(t *testing.T) {
	wrong := regexp.MustCompile(`(?:^|[^l]) everynode |^everynode |'everynode |` + "`everynode ")
	var look func(c *cobra.Command)
	seen := 0
	look = func(c *cobra.Command) {
		seen++
		for _, text := range []string{c.Short, c.Long, c.Example} {
			for line := range strings.Lines(text) {
				if wrong.MatchString(line) {
					t.Errorf("%s: %s", c.CommandPath(), line)
				}
			}
		}
		if c.HasParent() && !c.HasSubCommands() && c.Name() != "help" && !strings.Contains(c.Example, asPlugin+" ") {
			t.Errorf("%s has no example with %s", c.CommandPath(), asPlugin)
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(Root())
	if seen < 15 {
		t.Errorf("%d commands", seen)
	}
}

func TestVersion(t *testing.T) {
	for args, want := range map[string]string{"version": "kubectl-everynode devel, go", "version -o json": `"everynode": "devel"`} {
		if code, out, errs := run(append([]string{pluginName}, strings.Fields(args)...)...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, %s%s", args, code, out, errs)
		}
	}
}
