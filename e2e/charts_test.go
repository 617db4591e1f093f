package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	ownCharts    = "testdata/charts" // next to this file
	fleetNodes   = 4
	taintedNode  = "sim-4" // has the taint of a control plane node
	chartSettles = time.Minute
)

// TestCharts installs charts on simulated nodes, one after the other, and checks their
// DaemonSets: every pod that should exist is created, `why` agrees, an update replaces
// each pod once, and nothing is left after the chart is uninstalled.
//
// One chart is ours. EVERYNODE_CHARTS names a folder with charts of other projects,
// unpacked or as archives: NAME or NAME.tgz, and NAME.yaml with values where it needs
// any. docs/charts.md says what this does and does not show.
func TestCharts(t *testing.T) {
	own := givenCharts(t, ownCharts)
	var others []givenChart
	if folder := os.Getenv("EVERYNODE_CHARTS"); folder != "" {
		others = givenCharts(t, folder)
	}
	f := startFleet(t)
	for _, c := range own {
		t.Run(c.name, func(t *testing.T) { checkOwnChart(t, f.try(t, c)) })
	}
	t.Run("of others", func(t *testing.T) {
		if others == nil {
			t.Skip("no charts of others: EVERYNODE_CHARTS names a folder with some (docs/charts.md)")
		}
		for _, c := range others {
			t.Run(c.name, func(t *testing.T) { t.Logf("as a row of docs/charts.md:\n%s", f.try(t, c)) })
		}
	})
}

// checkOwnChart compares what the test saw of our chart with what the chart contains.
func checkOwnChart(t *testing.T, got *chartReport) {
	want := &chartReport{name: "node-agent", version: "1.2.3", privileged: true,
		left: []string{"APIService v1.metrics.everynode.test", "ValidatingWebhookConfiguration node-agent"},
		sets: []setReport{
			{name: "kube-system/node-agent-net", nodes: 4, update: "RollingUpdate"},
			{name: "node-agent/node-agent", nodes: 3, update: "RollingUpdate", reasons: []string{"TaintNotTolerated"}, warnings: []string{"writes to 1 path", "sees a runtime's socket"}},
			{name: "node-agent/node-agent-by-hand", nodes: 1, update: "OnDelete", reasons: []string{"NotSelected"}},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(chartReport{}, setReport{})); diff != "" {
		t.Errorf("what was seen of our own chart (-want +got):\n%s", diff)
	}
}

// givenChart is a chart to try: an archive or a folder, and values (empty: its own).
type givenChart struct{ name, path, values string }

// givenCharts lists the charts in a folder, sorted by name.
func givenCharts(t *testing.T, folder string) (charts []givenChart) {
	t.Helper()
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatalf("read the folder of charts: %v; give its whole path", err)
	}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		name, archive := strings.CutSuffix(entry.Name(), ".tgz")
		if !archive && !exists(filepath.Join(path, "Chart.yaml")) {
			continue
		}
		c := givenChart{name: name, path: path}
		if values := filepath.Join(folder, name+".yaml"); exists(values) {
			c.values = values
		}
		charts = append(charts, c)
	}
	if len(charts) == 0 {
		t.Fatalf("no chart in %s: give archives (NAME.tgz), or folders with a Chart.yaml", folder)
	}
	return charts
}

// chartFleet is a cluster of simulated nodes.
type chartFleet struct {
	bin     string
	env     []string // of the programs that the test runs
	client  kubernetes.Interface
	version string // of Kubernetes
}

// startFleet starts a cluster that ends with the test. It needs no root.
func startFleet(t *testing.T) *chartFleet {
	t.Helper()
	if testing.Short() {
		t.Skip("a cluster of simulated nodes: not with -short")
	}
	dir := t.TempDir()
	data, config := filepath.Join(dir, "data"), filepath.Join(dir, "kubeconfig")
	bin, err := filepath.Abs(builtPrograms(t))
	if err != nil {
		t.Fatal(err)
	}
	f := &chartFleet{bin: bin, env: append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+dir, "EVERYNODE_DATA_DIR="+data, "KUBECONFIG="+config)}
	t.Cleanup(func() {
		if out, err := f.run(context.WithoutCancel(t.Context()), "everynode", "down", "--purge"); err != nil {
			t.Errorf("everynode down --purge: %v\n%s", err, out)
		}
	})
	f.must(t, "everynode", "up", "--nodes", "0", "--simulate", fmt.Sprint(fleetNodes), "--detach",
		"--simulate-start", "200ms", "--simulate-ready", "200ms", "--simulate-stop", "200ms")
	text, err := os.ReadFile(filepath.Join(data, "admin.kubeconfig"))
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if f.client, err = kubernetes.NewForConfig(rest); err != nil {
		t.Fatal(err)
	}
	version, err := f.client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	f.version = version.GitVersion
	f.must(t, "kubectl", "taint", "node", taintedNode, "node-role.kubernetes.io/control-plane:NoSchedule")
	return f
}

// run runs one of our programs. With must, the test fails unless the program succeeds.
func (f *chartFleet) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, program), args...)
	cmd.Env, cmd.WaitDelay = f.env, time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (f *chartFleet) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := f.run(t.Context(), program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, lastLines(out))
	}
	return out
}

// chartReport is what the test saw of a chart.
type chartReport struct {
	name, version string
	privileged    bool     // Pod Security level baseline would refuse pods of its namespace
	left          []string // objects that were not applied
	sets          []setReport
}

// setReport is what the test saw of a DaemonSet.
type setReport struct {
	name     string // NAMESPACE/NAME
	nodes    int32  // that have a pod of it
	update   string // its strategy
	reasons  []string
	warnings []string
}

// try installs a chart, updates its DaemonSets, and uninstalls it.
func (f *chartFleet) try(t *testing.T, c givenChart) *chartReport {
	r := f.render(t, c)
	f.must(t, "kubectl", "create", "namespace", r.chart)
	f.must(t, "kubectl", "config", "set-context", "--current", "--namespace", r.chart)
	t.Cleanup(func() { f.takeAway(t, r) })
	f.apply(t, r)
	report := &chartReport{name: r.chart, version: r.version, left: r.left}
	for _, id := range r.daemonSets {
		f.settle(t, id)
		report.sets = append(report.sets, f.ask(t, id))
	}
	out := f.must(t, "kubectl", "label", "--dry-run=server", "namespace", r.chart, "pod-security.kubernetes.io/enforce=baseline", "--overwrite")
	report.privileged = strings.Contains(out, "violate")
	for _, id := range r.daemonSets {
		f.update(t, id)
	}
	return report
}

// apply sends the CustomResourceDefinitions first, then the objects, which may be of
// these kinds.
func (f *chartFleet) apply(t *testing.T, r *renderedChart) {
	for _, part := range []struct {
		what    string
		objects []*unstructured.Unstructured
		then    []string
	}{
		{"kinds", r.kinds, []string{"wait", "--for=condition=Established", "--timeout=30s"}},
		{"objects", r.objects, nil},
	} {
		if len(part.objects) == 0 {
			continue
		}
		file := writeObjects(t, part.what, part.objects)
		out, err := f.run(t.Context(), "kubectl", "apply", "--server-side", "-f", file)
		if err != nil {
			t.Fatalf("kubectl apply: %v\n%s\nWhere a kind is missing, install who brings it, or turn it off by values.", err, complaints(out))
		}
		if part.then != nil {
			f.must(t, "kubectl", append(part.then, "-f", file)...)
		}
	}
}

// settle waits until a DaemonSet has the pods that it should, all of them available.
func (f *chartFleet) settle(t *testing.T, id objectID) *appsv1.DaemonSet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chartSettles)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ds, err := f.client.AppsV1().DaemonSets(id.namespace).Get(ctx, id.name, metav1.GetOptions{})
		if err == nil && complete(ds) {
			return ds
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			out, _ := f.run(context.WithoutCancel(t.Context()), "everynode", "why", "daemonset/"+id.name, "-n", id.namespace, "--not-ok", "-o", "wide")
			t.Fatalf("%s/%s is not as it should be within %s: %v\n%s", id.namespace, id.name, chartSettles, err, lastLines(out))
		}
	}
}

func complete(ds *appsv1.DaemonSet) bool {
	s := ds.Status
	current := s.UpdatedNumberScheduled == s.DesiredNumberScheduled || ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	return s.ObservedGeneration == ds.Generation && current && s.NumberAvailable == s.DesiredNumberScheduled && s.NumberMisscheduled == 0
}

// ask compares a DaemonSet's status with what `everynode why` says about each node.
func (f *chartFleet) ask(t *testing.T, id objectID) setReport {
	t.Helper()
	var answer struct {
		DaemonSets []struct{ Warnings []string }
		Rows       []struct {
			Node, Reason, Detail string
			OK                   bool
		}
	}
	out := f.must(t, "everynode", "why", "daemonset/"+id.name, "-n", id.namespace, "-o", "json")
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("everynode why: %v\n%s", err, out)
	}
	ds := f.settle(t, id)
	report := setReport{name: id.namespace + "/" + id.name, nodes: ds.Status.DesiredNumberScheduled, update: string(ds.Spec.UpdateStrategy.Type)}
	upToDate := 0
	for _, row := range answer.Rows {
		switch {
		case !row.OK:
			t.Errorf("why: %s %s on %s: %s", id.name, row.Reason, row.Node, row.Detail)
		case row.Reason == "UpToDate":
			upToDate++
		default:
			report.reasons = append(report.reasons, row.Reason)
		}
	}
	if len(answer.Rows) != fleetNodes || upToDate != int(report.nodes) {
		t.Errorf("why has %d rows and %d pods for %s, whose status says %d of %d nodes", len(answer.Rows), upToDate, report.name, report.nodes, fleetNodes)
	}
	slices.Sort(report.reasons)
	report.reasons = slices.Compact(report.reasons)
	for _, set := range answer.DaemonSets {
		report.warnings = inShort(set.Warnings)
	}
	return report
}

// update changes the template. Each pod is replaced once: by the controller or, where
// the update strategy is OnDelete, by hand.
func (f *chartFleet) update(t *testing.T, id objectID) {
	t.Helper()
	f.must(t, "kubectl", "rollout", "restart", "-n", id.namespace, "daemonset/"+id.name)
	ds := f.settle(t, id)
	if ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		f.must(t, "kubectl", "delete", "pods", "-n", id.namespace, "-l", metav1.FormatLabelSelector(ds.Spec.Selector))
		f.settle(t, id)
	}
	revisions, err := f.client.AppsV1().ControllerRevisions(id.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for i := range revisions.Items {
		if metav1.IsControlledBy(&revisions.Items[i], ds) {
			count++
		}
	}
	if count != 2 {
		t.Errorf("%s has %d revisions after one update, want 2", id.name, count)
	}
}

// takeAway deletes a chart's objects, and waits until they are gone.
func (f *chartFleet) takeAway(t *testing.T, r *renderedChart) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*chartSettles)
	defer cancel()
	file := writeObjects(t, "all", slices.Concat(r.objects, r.kinds))
	for _, args := range [][]string{
		{"delete", "--ignore-not-found", "--cascade=foreground", "-f", file},
		{"delete", "namespace", r.chart},
		{"config", "set-context", "--current", "--namespace", "default"},
	} {
		if out, err := f.run(ctx, "kubectl", args...); err != nil {
			t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, complaints(out))
		}
	}
}
