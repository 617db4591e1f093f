package verbs

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"everynode/internal/cli/console"
	"everynode/internal/why"
)

func testRows() []why.Row {
	return []why.Row{
		{Node: "sim-2", Namespace: "default", DaemonSet: "agent", Pod: "agent-abc", Reason: "NotReady", Detail: "CrashLoopBackOff (container main, exit code 3, 2 restarts): " + strings.Repeat("words ", 12),
			Why: "The pod has been ready before and is not ready now.", Change: "Find out why.", Commands: []string{"kubectl logs -n default agent-abc -c main --previous"}},
		{Node: "sim-10", Namespace: "default", DaemonSet: "agent", Pod: "agent-def", Reason: "UpToDate", Why: "All is well.", OK: true},
	}
}

func testAnswer() *why.Answer {
	return &why.Answer{Rows: testRows(), DaemonSets: []why.Set{{Namespace: "default", Name: "agent", Reasons: map[string]int{"UpToDate": 997, "NotReady": 2, "BudgetSpent": 1}}}}
}

// A heading sums up the rows. Only commands may be wider than the terminal:
// users copy them.
func TestWhyFits(t *testing.T) {
	of := why.Question{DaemonSet: "agent", Namespace: "default"}
	for _, wide := range []bool{false, true} {
		var out bytes.Buffer
		text := whyText{out: &out, question: of, width: 80, clip: true}
		answer := testAnswer()
		write := text.table
		if wide {
			write = text.blocks
		}
		if err := errors.Join(text.heading(answer), write(answer.Rows)); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(out.String(), "\n")
		if want := "default/agent, 1000 nodes: 997 UpToDate, 2 NotReady, 1 BudgetSpent"; first != want {
			t.Errorf("%q, want %q", first, want)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 81 && !strings.Contains(line, "$ ") {
				t.Errorf("%d columns: %s", len(line), line)
			}
		}
		if got := strings.Count(out.String(), "words"); wide && got != 12 {
			t.Errorf("%d of 12 words are there:\n%s", got, &out)
		}
		if got := strings.Contains(out.String(), "    $ kubectl logs -n default agent-abc -c main --previous\n"); got != wide {
			t.Errorf("the command is there: %v\n%s", got, &out)
		}
		if strings.Contains(out.String(), "All is well") {
			t.Errorf("much is said of what is well:\n%s", &out)
		}
	}
}

// In a pipe nothing is cut short.
func TestWhyIsWholeInAPipe(t *testing.T) {
	var out bytes.Buffer
	cmd := whyCommand{Console: &console.Console{Out: &out, Program: console.Everynode}}
	if err := cmd.print("", why.Question{DaemonSet: "agent", Namespace: "default"}, testAnswer()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "words"); got != 12 {
		t.Errorf("%d of 12 words:\n%s", got, &out)
	}
}

func TestWhyFilters(t *testing.T) {
	for what, c := range map[string]struct {
		flags whyFlags
		want  []string
		err   string
	}{
		"all":            {whyFlags{}, []string{"sim-2", "sim-10"}, ""},
		"a reason":       {whyFlags{reasons: []string{"uptodate"}}, []string{"sim-10"}, ""},
		"two reasons":    {whyFlags{reasons: []string{"NotReady", "UpToDate"}}, []string{"sim-2", "sim-10"}, ""},
		"not OK":         {whyFlags{notOK: true}, []string{"sim-2"}, ""},
		"there are none": {whyFlags{reasons: []string{"NotReddy"}}, nil, "--reason NotReddy: there is no such reason; did you mean NotReady?"},
	} {
		t.Run(what, func(t *testing.T) {
			err := c.flags.check()
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("%v, want %s", err, c.err)
				}
				return
			}
			var got []string
			for _, r := range testRows() {
				if c.flags.wants(&r) {
					got = append(got, r.Node)
				}
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestWhyQuestion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want why.Question
		err  string
	}{
		{[]string{"node-1"}, why.Question{Node: "node-1"}, ""},
		{[]string{"node/node-1"}, why.Question{Node: "node-1"}, ""},
		{[]string{"node-1", "agent"}, why.Question{Node: "node-1", DaemonSet: "agent"}, ""},
		{[]string{"node-1", "ds/agent"}, why.Question{Node: "node-1", DaemonSet: "agent"}, ""},
		{[]string{"node/node-1", "monitoring/agent"}, why.Question{Node: "node-1", Namespace: "monitoring", DaemonSet: "agent"}, ""},
		{[]string{"ds/agent"}, why.Question{DaemonSet: "agent"}, ""},
		{[]string{"daemonset.apps/agent"}, why.Question{DaemonSet: "agent"}, ""},
		{[]string{"monitoring/agent"}, why.Question{Namespace: "monitoring", DaemonSet: "agent"}, ""},
		{[]string{""}, why.Question{}, `"" does not name a node: `},
		{[]string{"ds/"}, why.Question{}, `"ds/" does not name a DaemonSet: `},
		{[]string{"node/"}, why.Question{}, `"node/" does not name a node: `},
		{[]string{"node/a/b"}, why.Question{}, `"node/a/b" does not name a node: `},
		{[]string{"ds/a/b"}, why.Question{}, `"ds/a/b" does not name a DaemonSet: `},
		{[]string{"node-1", ""}, why.Question{}, `"" does not name a DaemonSet: `},
		{[]string{"node-1", "ds/"}, why.Question{}, `"ds/" does not name a DaemonSet: `},
		{[]string{"ds/agent", "node-1"}, why.Question{}, "ds/agent node-1: give NODE [DAEMONSET], or "},
	} {
		got, err := newQuestion(c.args, "")
		switch {
		case c.err != "":
			if err == nil || !strings.HasPrefix(err.Error(), c.err) || (&console.Console{Err: io.Discard}).ExitCode(err) != console.ExitUsage {
				t.Errorf("%q: %v, want %s", c.args, err, c.err)
			}
		case err != nil || got != c.want:
			t.Errorf("%q: %+v, %v; want %+v", c.args, got, err, c.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"up", "down", "status", "node", "kubeconfig"}
	for given, want := range map[string]string{
		"upp": "up", "donw": "down", "stauts": "status", "nodes": "node", "kubecfg": "", "xyz": "", "KUBECONFIG": "kubeconfig",
	} {
		want := strings.TrimSuffix("; did you mean "+want+"?", "; did you mean ?")
		if got := console.DidYouMean(given, known); got != want {
			t.Errorf("%s: %q, want %q", given, got, want)
		}
	}
}

// A user who may not read releases is told what that hides. Without the kind there is nothing to hide.
func TestWhyWithoutReleases(t *testing.T) {
	c := &auditedCluster{objects: map[string]string{
		"/apis/apps/v1/namespaces/apps/daemonsets":          "{apiVersion: apps/v1, kind: DaemonSetList, items: [{" + watchedSet + "]}",
		"/apis/apps/v1/namespaces/apps/controllerrevisions": "{apiVersion: apps/v1, kind: ControllerRevisionList, items: []}",
		"/api/v1/namespaces/apps/pods":                      "{apiVersion: v1, kind: PodList, items: []}",
		"/api/v1/namespaces/apps/events":                    "{apiVersion: v1, kind: EventList, items: []}",
		"/api/v1/nodes":                                     `{apiVersion: v1, kind: NodeList, items: [{metadata: {name: n-1}, status: {conditions: [{type: Ready, status: "True"}]}}]}`,
	}}
	const begins = "not known: DaemonSetRollouts were not read, so nodes that wait for their wave in"
	code, out, errs := c.run(t, []string{"why"}, "ds/agent", "-n", "apps")
	if code != 0 || errs != "" || !strings.Contains(out, "apps/agent, 1 node: 1 Missing\n"+begins) || !strings.Contains(out, "\nn-1 ") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	for _, form := range []string{"json", "yaml"} {
		_, out, _ := c.run(t, []string{"why"}, "ds/agent", "-n", "apps", "-o", form)
		var answer why.Answer
		if err := yaml.Unmarshal([]byte(out), &answer); err != nil || len(answer.NotRead) != 1 ||
			!strings.Contains(answer.NotRead[0], "everynode-rollouts-view") || !strings.HasSuffix(answer.NotRead[0], "/daemonsetrollouts is forbidden") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	c.objects["/apis/everynode.io/v1alpha1"] = "404"
	for _, command := range []string{"why ds/agent", "audit"} {
		c.objects["/apis/apps/v1/daemonsets"] = c.objects["/apis/apps/v1/namespaces/apps/daemonsets"]
		if _, out, _ := c.run(t, strings.Fields(command), "-n", "apps"); strings.Contains(out, "Rollout") {
			t.Errorf("%s without the kind:\n%s", command, out)
		}
	}
}
