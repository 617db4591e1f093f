package compat

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"k8s.io/client-go/discovery"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/view"
)

// TestSkew takes the program through a DaemonSet's life: coverage, a new node, an
// update, a rollback that finds the old revision, an update with surge, a label
// that is removed. The API server is the one in this process, or another version
// (apiServerEnv). The program may only use GA APIs of Kubernetes.
func TestSkew(t *testing.T) {
	x := newFailover(t, leaderFault{}, 10, buildController(t))
	checkVersion(t, x)
	x.begin()
	x.l.create(agent(rolling(2, 0), func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"run": "yes"} }))
	x.label("yes")
	x.finish("coverage", 10)
	x.l.addNode("late", func(n *corev1.Node) { n.Labels["run"] = "yes" })
	x.finish("a node more", 11)
	first := x.l.revisionNames()

	x.l.edit(image("agent:2"))
	x.finish("the update", 11)
	x.l.edit(image("agent:1"))
	x.finish("the rollback", 11)
	for name := range first {
		if now := x.l.revisionNames(); now[name] != 3 || len(now) != 2 {
			t.Errorf("revisions after a rollback to %s: %v", name, now)
		}
	}
	x.l.edit(image("agent:3"), rolling(0, 3))
	x.finish("the update with surge", 11)
	x.l.editNode("late", func(n *corev1.Node) { delete(n.Labels, "run") })
	x.finish("a label less", 10)

	for _, wrong := range x.o.results().wrong {
		t.Error(wrong)
	}
	asked := slices.Sorted(maps.Keys(x.pair[0].gate.apis))
	for _, api := range asked {
		if api != "/apis/"+view.PolicyVersion && !regexp.MustCompile(`^(/version|/api/v[0-9]+|/apis/[a-z0-9.]+/v[0-9]+)$`).MatchString(api) {
			t.Errorf("%s was asked, which is not a GA API", api)
		}
	}
	t.Logf("APIs that were asked: %v", asked)
}

// checkVersion checks that the API server has the requested version.
func checkVersion(t *testing.T, x *failover) {
	t.Helper()
	info, err := discovery.ToServerVersionInterfaceWithContext(x.l.client.Discovery()).ServerVersionWithContext(t.Context())
	x.l.do(err)
	t.Logf("the API server is %s (%s.%s)", info.GitVersion, info.Major, info.Minor)
	want := filepath.Base(filepath.Dir(os.Getenv(apiServerEnv)))
	if got := "v" + info.Major + "." + info.Minor; os.Getenv(apiServerEnv) != "" && got != want {
		t.Fatalf("the API server is %s, want %s", got, want)
	}
}

// label sets the label that the DaemonSet selects on all nodes.
func (x *failover) label(value string) {
	x.t.Helper()
	for _, n := range x.l.nodes() {
		x.l.editNode(n.Name, func(n *corev1.Node) { n.Labels["run"] = value })
	}
}

// finish waits until the cluster is as specified, with that many pods.
func (x *failover) finish(what string, pods int) {
	x.t.Helper()
	x.l.do(x.o.reached(x.t.Context(), shared.store.Server.KV().Rev()))
	x.wait(what+" is finished", patience, func() bool { return x.o.unlike() == "" && len(x.l.pods()) == pods })
}
