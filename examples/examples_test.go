// Package examples_test checks the manifests and runs the program text in them.
package examples_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// load reads a manifest into object and refuses fields that the API does not know.
func load(t *testing.T, name string, object any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestManifests(t *testing.T) {
	var audit, cache appsv1.DaemonSet
	var web appsv1.Deployment
	load(t, "node-audit-daemonset.yaml", &audit)
	load(t, "ssd-cache-api-daemonset.yaml", &cache)
	load(t, "deployment.yaml", &web)
	for _, m := range []struct {
		name, image string
		selector    *metav1.LabelSelector
		template    corev1.PodTemplateSpec
	}{
		{"audit-agent", "busybox:1.36", audit.Spec.Selector, audit.Spec.Template},
		{"ssd-cache-api", "everynode.local/ssd-cache-api:1", cache.Spec.Selector, cache.Spec.Template},
		{"web", "busybox:1.36", web.Spec.Selector, web.Spec.Template},
	} {
		selector, err := metav1.LabelSelectorAsSelector(m.selector)
		if err != nil {
			t.Fatal(err)
		}
		if !selector.Matches(labels.Set(m.template.Labels)) || m.template.Labels["app"] != m.name {
			t.Errorf("%s: labels %v", m.name, m.template.Labels)
		}
		checkContainer(t, m.template.Spec.Containers[0], m.image)
	}
	for _, ds := range []appsv1.DaemonSet{audit, cache} {
		if got := ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.String(); got != "1" || ds.Spec.MinReadySeconds != 5 {
			t.Errorf("%s: maxUnavailable %s, minReadySeconds %d", ds.Name, got, ds.Spec.MinReadySeconds)
		}
		if !ds.Spec.Template.Spec.HostNetwork {
			t.Errorf("%s: pods would not show their node's address", ds.Name)
		}
	}
	logs := audit.Spec.Template.Spec.Containers[0].VolumeMounts[0]
	if logs.MountPath != "/var/log" || !logs.ReadOnly || audit.Spec.Template.Spec.Volumes[0].HostPath.Path != "/var/log" {
		t.Errorf("audit-agent reads %+v", logs)
	}
	if got := cache.Spec.Template.Spec.NodeSelector["ssd"]; got != "true" {
		t.Errorf("ssd-cache-api selects ssd=%q", got)
	}
}

// checkContainer checks what holds for every container of the examples except those that must be privileged.
func checkContainer(t *testing.T, c corev1.Container, image string) {
	t.Helper()
	if c.Image != image {
		t.Errorf("%s: image %s, want %s", c.Name, c.Image, image)
	}
	checkMemory(t, c)
	sc := c.SecurityContext
	if sc == nil || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation || sc.Privileged != nil ||
		len(sc.Capabilities.Drop) != 1 || sc.Capabilities.Drop[0] != "ALL" {
		t.Errorf("%s: security context %+v", c.Name, sc)
	}
}

func checkMemory(t *testing.T, c corev1.Container) {
	t.Helper()
	if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s: no memory request or limit", c.Name)
	}
}

// agent is the audit agent's program text, running under a busybox shell on directories of the test.
type agent struct {
	t     *testing.T
	cmd   *exec.Cmd
	logs  string
	lines chan string
}

func startAgent(t *testing.T, before map[string]string) *agent {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	var ds appsv1.DaemonSet
	load(t, "node-audit-daemonset.yaml", &ds)
	a := &agent{t: t, logs: t.TempDir(), lines: make(chan string, 100000)}
	for name, content := range before {
		a.append(name, content)
	}
	script := strings.NewReplacer("/var/log", a.logs, "/tmp/", t.TempDir()+"/").Replace(ds.Spec.Template.Spec.Containers[0].Args[0])
	// PATH has only busybox's own commands, as in the image.
	bin := t.TempDir()
	if out, err := exec.Command(busybox, "--install", "-s", bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.cmd = exec.CommandContext(t.Context(), busybox, "sh", "-eu", "-c", script)
	a.cmd.Env = []string{"PATH=" + bin, "NODE_NAME=node-1"}
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			a.lines <- scanner.Text()
		}
	}()
	a.expect(fmt.Sprintf("audit-agent on node-1: watching %d files in %s", len(before), a.logs))
	return a
}

// append appends to a log file, and creates it if it is missing.
func (a *agent) append(name, text string) {
	a.t.Helper()
	name = filepath.Join(a.logs, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		a.t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		a.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		a.t.Fatal(err)
	}
}

// expect waits for the next lines, which must be these.
func (a *agent) expect(want ...string) {
	a.t.Helper()
	for _, line := range want {
		select {
		case got, ok := <-a.lines:
			if !ok || got != line {
				a.t.Fatalf("printed %q, want %q", got, line)
			}
		case <-time.After(time.Minute):
			a.t.Fatalf("not printed: %q", line)
		}
	}
}

// stop sends SIGTERM and checks that the agent ends at once, without an error and without another line.
func (a *agent) stop() {
	a.t.Helper()
	began := time.Now()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	for line := range a.lines {
		a.t.Errorf("more than expected: %q", line)
	}
	if err := a.cmd.Wait(); err != nil {
		a.t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took > 20*time.Second { // its pod's grace period is 30 s
		a.t.Errorf("took %v to end", took)
	}
}

func TestAuditAgentPrintsNewLines(t *testing.T) {
	t.Parallel()
	a := startAgent(t, map[string]string{"syslog": "old line\n", "with space.log": "old\n"})
	a.append("syslog", "first\n")
	a.expect("syslog: first")
	a.append("syslog", `back\slash 100% "quoted" $HOME `+"\n\nsecond\n")
	a.expect(`syslog: back\slash 100% "quoted" $HOME `, "syslog: ", "syslog: second")
	a.append("apps/later.log", "made later\n")
	a.expect("apps/later.log: made later")
	a.append("with space.log", "new\n")
	a.expect("with space.log: new")
	a.stop()
}

func TestAuditAgentStartsWithoutFiles(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.append("messages", "hello\n")
	a.expect("messages: hello")
	a.stop()
}

func TestAuditAgentFollowsRotation(t *testing.T) {
	t.Parallel()
	a := startAgent(t, map[string]string{"syslog": "old line\n"})
	name := filepath.Join(a.logs, "syslog")
	a.append("syslog", "before\n")
	a.expect("syslog: before")
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	a.append("syslog", "after\n")
	a.expect("syslog: after")
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	a.append("syslog", "x\n")
	a.expect("syslog: x")
	a.stop()
}

func TestAuditAgentLeavesOut(t *testing.T) {
	t.Parallel()
	a := startAgent(t, map[string]string{"syslog": ""})
	for _, name := range []string{"pods/default_audit-agent-x/agent/0.log", "containers/x.log", "syslog.2.gz", "wtmp", "btmp.1", "lastlog"} {
		a.append(name, "not for us\n")
	}
	a.append("syslog", "for us\n")
	a.expect("syslog: for us")
	a.stop()
}

func TestAuditAgentKeepsUp(t *testing.T) {
	t.Parallel()
	a := startAgent(t, map[string]string{"big.log": strings.Repeat("old\n", 100000)})
	var text bytes.Buffer
	want := make([]string, 0, 20000)
	for i := range 20000 {
		fmt.Fprintf(&text, "line %d %s\n", i, strings.Repeat("x", i%200))
		want = append(want, fmt.Sprintf("big.log: line %d %s", i, strings.Repeat("x", i%200)))
	}
	a.append("big.log", text.String())
	a.expect(want...)
	a.stop()
}

// A directory that cannot be read must show as a failing pod, not as an agent that prints nothing.
func TestAuditAgentFailsWithoutLogs(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	if err := os.RemoveAll(a.logs); err != nil {
		t.Fatal(err)
	}
	a.stop() // a directory that disappears under a running agent is not a crash

	var ds appsv1.DaemonSet
	load(t, "node-audit-daemonset.yaml", &ds)
	script := strings.ReplaceAll(ds.Spec.Template.Spec.Containers[0].Args[0], "/var/log", a.logs)
	if out, err := exec.CommandContext(t.Context(), "busybox", "sh", "-eu", "-c", script).CombinedOutput(); err == nil {
		t.Errorf("started without its directory: %s", out)
	}
}
