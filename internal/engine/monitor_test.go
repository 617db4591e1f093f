package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/delivery"
)

func notReady(t *testing.T, m *Monitor, want ...string) {
	t.Helper()
	got := fmt.Sprint(m.Ready())
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("readiness is %q, want %q", got, w)
		}
	}
}

func isServing(t *testing.T, m *Monitor) {
	t.Helper()
	if err := errors.Join(m.Ready(), m.Healthy()); err != nil {
		t.Errorf("not ready or healthy: %v", err)
	}
}

// metrics returns the samples of a scrape: name with labels in braces, and value.
func metrics(t *testing.T, m *Monitor) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, s := range f.Metric {
			var labels []string
			for _, l := range s.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), metricPrefix) + "{" + strings.Join(labels, ",") + "}"
			out[name] = s.GetGauge().GetValue() + s.GetCounter().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics against the conventions: %v, %v", problems, err)
	}
	return out
}

func expect(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, value)
		}
	}
}

// A rollout, as a scrape in the middle and one at the end show it.
func TestMetricsOfARollout(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m := NewMonitor()
		c.addNodes(4)
		c.editNode("node-04", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}} })
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 2 })
		notReady(t, m, "waiting for the API server")
		c.start(elect("one"), func(cfg *Config) { cfg.Monitor = m })
		c.run(20 * time.Second)
		isServing(t, m)
		c.editSet(image("agent:2"))
		c.run(500 * time.Millisecond)
		const of = "daemonset=agent,namespace=default"
		expect(t, metrics(t, m), map[string]float64{
			"leader{}": 1, "nodes{}": 4, "daemonsets{}": 1, "daemonsets_listed{}": 1, "pods{}": 3,
			"daemonset_desired_nodes{daemonset=agent,namespace=default}": 3, "daemonset_available_nodes{" + of + "}": 1,
			"daemonset_budget_nodes{daemonset=agent,kind=unavailable,namespace=default}":      2,
			"daemonset_budget_used_nodes{daemonset=agent,kind=unavailable,namespace=default}": 2,
			"daemonset_budget_nodes{daemonset=agent,kind=surge,namespace=default}":            0,
			"daemonset_nodes{reason=BudgetSpent}":                                             1, "daemonset_nodes{reason=WaitingForTermination}": 2,
			"daemonset_nodes{reason=NotEligible}": 1, "pods_deleted_total{reason=Outdated}": 2,
		})
		c.run(time.Minute)
		c.covered(3, "agent:2")
		got := metrics(t, m)
		expect(t, got, map[string]float64{
			"daemonset_updated_nodes{" + of + "}": 3, "daemonset_available_nodes{" + of + "}": 3, "daemonset_nodes{reason=UpToDate}": 3,
			"daemonset_budget_used_nodes{daemonset=agent,kind=unavailable,namespace=default}": 0,
			"pods_created_total{}": 6, "pods_deleted_total{reason=Outdated}": 3,
			"writes_total{outcome=done,verb=create}": 6, "write_duration_seconds{verb=delete}": 3,
			"api_requests_total{code=200,resource=pods,verb=create}": 6, "api_request_duration_seconds{resource=pods,verb=create}": 6,
			"queue_depth{}": 0, "writes_waiting{}": 0, "writes_under_way{}": 0, "sync_errors_total{}": 0,
		})
		if got["queue_duration_seconds{}"] == 0 || got["sync_duration_seconds{}"] < 10 {
			t.Errorf("%v events waited, %v decisions", got["queue_duration_seconds{}"], got["sync_duration_seconds{}"])
		}
		c.stop()
		notReady(t, m, "has stopped")
		expect(t, metrics(t, m), map[string]float64{"leader{}": 0, "pods_created_total{}": 6})
	})
}

// However many DaemonSets there are, the metrics have a limited number of series; the
// sums are over all.
func TestMetricsAreBounded(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m := NewMonitor()
		c.addNodes(1)
		for i := range maxListed + 10 {
			c.addSet(func(ds *appsv1.DaemonSet) { // with a selector of its own, otherwise each looks at the pods of all others
				ds.Name = fmt.Sprintf("agent-%04d", i)
				ds.Spec.Selector.MatchLabels["app"], ds.Spec.Template.Labels["app"] = ds.Name, ds.Name
			})
		}
		c.start(func(cfg *Config) { cfg.Monitor, cfg.decided = m, nil })
		c.run(time.Minute)
		got := metrics(t, m)
		series := 0
		for name := range got {
			if strings.HasPrefix(name, "daemonset_desired_nodes") {
				series++
			}
		}
		if series != maxListed {
			t.Errorf("%d DaemonSets have series", series)
		}
		expect(t, got, map[string]float64{"daemonsets{}": maxListed + 10, "daemonsets_listed{}": maxListed, "daemonset_nodes{reason=UpToDate}": maxListed + 10,
			"daemonset_desired_nodes{daemonset=agent-0499,namespace=default}": 1})
	})
}

// If a permission is missing the engine names it, and goes on with the rest.
func TestMissingPermission(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m := NewMonitor()
		c.addNodes(3)
		c.addSet()
		c.start(func(cfg *Config) { cfg.Monitor = m })
		c.run(10 * time.Second)
		isServing(t, m)
		c.deny("create pods", "update daemonsets/status")
		c.editNode("node-01", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoExecute}} })
		c.addNode("node-04")
		c.run(time.Minute)
		notReady(t, m, "not permitted: update daemonsets/status, create pods")
		if n := len(c.pods()); n != 2 {
			t.Errorf("%d pods: the one of the tainted node should be gone, and no other", n)
		}
		if err := m.Healthy(); err != nil {
			t.Errorf("a restart gives no permission, yet: %v", err)
		}
		c.deny()
		c.run(2 * time.Minute)
		isServing(t, m)
		c.covered(3, "agent:1")
	})
}

// An API server that is gone for ten minutes is asked now and then, by an engine that
// stays healthy; when the server is back it is not flooded.
func TestServerGoneForTenMinutes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		const nodes = 200
		m := NewMonitor()
		c.addNodes(nodes)
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal = 50 })
		c.start(elect("one"), func(cfg *Config) { cfg.Monitor = m })
		c.run(20 * time.Second)
		var asked, underway, most atomic.Int32
		var down atomic.Bool
		c.slowDown(func(request) time.Duration {
			most.Store(max(most.Load(), underway.Add(1)))
			time.AfterFunc(10*time.Millisecond, func() { underway.Add(-1) })
			return 10 * time.Millisecond
		})
		c.intercept(func(request) (error, bool) {
			asked.Add(1)
			if down.Load() {
				return errors.New("connection refused"), false
			}
			return nil, false
		})
		c.editSet(image("agent:2"))
		c.run(1100 * time.Millisecond)
		down.Store(true)
		c.cutWatches(true)
		asked.Store(0)
		c.run(10 * time.Minute)
		// Four watches and a lease, each every other second.
		if n := asked.Load(); n > 2400 {
			t.Errorf("%d requests in ten minutes to a server that is gone", n)
		}
		notReady(t, m, "cannot follow pods since", "connection refused")
		if err := m.Healthy(); err != nil {
			t.Errorf("a restart would not help, yet: %v", err)
		}
		down.Store(false)
		asked.Store(0)
		most.Store(0)
		c.run(5 * time.Second)
		if n, at := asked.Load(), most.Load(); n > 5*nodes || at > delivery.MaxWindow+16 {
			t.Errorf("%d requests in the first 5 s after it is back, up to %d at once", n, at)
		}
		c.run(2 * time.Minute)
		c.covered(nodes, "agent:2")
		isServing(t, m)
		if n := len(c.creates); n != 2*nodes {
			t.Errorf("%d creates, want %d", n, 2*nodes)
		}
	})
}

// A standby is ready when its index is warm, and says that it does not work.
func TestStandbyIsReady(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.start(elect("one"))
		one, endedOne := c.stopEngine, c.ended
		c.run(5 * time.Second)
		m := NewMonitor()
		c.stall("pods", true)
		c.start(elect("two"), func(cfg *Config) { cfg.Monitor = m })
		c.run(5 * time.Second)
		isServing(t, m)
		expect(t, metrics(t, m), map[string]float64{"leader{}": 0, "nodes{}": 2})
		one()
		<-endedOne
		c.run(5 * time.Second)
		expect(t, metrics(t, m), map[string]float64{"leader{}": 1})
	})
}

// Told to stop while the API server does not answer, the engine ends well within the
// time that a kubelet gives a pod.
func TestStopsWhileServerHangs(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(20)
		c.addSet()
		c.start(elect("one"), alone)
		c.run(11 * time.Second)
		c.slowDown(func(request) time.Duration { return time.Hour })
		c.editSet(image("agent:2"))
		c.run(time.Second)
		began := time.Now()
		c.stop()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// Pods of a kind DaemonSet that somebody has defined in another group are not ours: not
// counted, not adopted, not waited for.
func TestDaemonSetOfAnotherGroup(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet()
		foreign := func(name string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			yes := true
			c.add("pods", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "agent"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps.example.com/v1alpha1", Kind: "DaemonSet", Name: "agent", UID: c.objects["daemonsets"]["default/agent"].(*appsv1.DaemonSet).UID, Controller: &yes}}},
				Spec: corev1.PodSpec{NodeName: "node-01", Containers: []corev1.Container{{Name: "agent", Image: "foreign"}}}})
		}
		foreign("foreign-1")
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(10 * time.Second)
		c.start(elect("two"))
		c.run(time.Second)
		c.stall("pods", true)
		foreign("foreign-2")
		c.editSet(image("agent:2"))
		stopOne()
		<-endedOne
		c.run(time.Second) // less than it takes to give up a watch that stands still
		if n := c.wrote("delete pods"); n == 0 {
			t.Error("the new leader waits for pods that are not ours")
		}
		c.stall("pods", false)
		c.run(time.Minute)
		images := map[string]int{}
		for _, p := range c.pods() {
			images[p.Spec.Containers[0].Image]++
		}
		if s := c.set().Status; images["foreign"] != 2 || images["agent:2"] != 2 || len(c.pods()) != 4 || s.NumberAvailable != 2 || s.CurrentNumberScheduled != 2 {
			t.Errorf("pods %v, status %+v", images, s)
		}
	})
}

func TestClockSkewIsTold(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	var r requests
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	answer := func(ahead time.Duration) *http.Response {
		return &http.Response{Header: http.Header{"Date": {now.Add(-ahead).Format(http.TimeFormat)}}}
	}
	r.readClock(answer(time.Minute), now.Add(-2*time.Second), now, log)
	if _, known := r.clockSkew(); known {
		t.Error("an answer that took two seconds tells the time")
	}
	r.readClock(answer(time.Minute), now, now, log)
	if got, _ := r.clockSkew(); (got-time.Minute).Abs() > time.Second || strings.Count(out.String(), "level=WARN") != 1 {
		t.Errorf("a clock that is a minute ahead is %s ahead, log %q", got, out.String())
	}
	now = now.Add(2 * skewEvery)
	r.readClock(answer(0), now, now, log)
	if got, _ := r.clockSkew(); got.Abs() > time.Second {
		t.Errorf("a clock that is right is %s ahead", got)
	}
}

func TestAim(t *testing.T) {
	for in, want := range map[string]string{
		"GET /api/v1/pods?watch=true":                                     "watch pods",
		"GET /api/v1/pods?limit=1000":                                     "list pods",
		"GET /api/v1/nodes/a":                                             "get nodes",
		"POST /api/v1/namespaces/x/pods":                                  "create pods",
		"DELETE /api/v1/namespaces/x/pods/a":                              "delete pods",
		"PATCH /api/v1/namespaces/x/pods/a":                               "patch pods",
		"PUT /apis/apps/v1/namespaces/x/daemonsets/a/status":              "update daemonsets/status",
		"GET /apis/coordination.k8s.io/v1/namespaces/x/leases?watch=true": "watch leases",
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews":     "create selfsubjectaccessreviews",
		"GET /version": "get other",
		"GET /apis/apps/v1/namespaces/x/controllerrevisions/a":                 "get controllerrevisions",
		"GET /apis/apps/v1/daemonsets?allowWatchBookmarks=true&watch=true&x=1": "watch daemonsets",
	} {
		method, url, _ := strings.Cut(in, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://server"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if verb, resource := aim(req); verb+" "+resource != want {
			t.Errorf("%s is %s %s, want %s", in, verb, resource, want)
		}
	}
}

// Everything that the engine requests in a busy life is among the permissions that it
// checks.
func TestPermissionsAreComplete(t *testing.T) {
	inCluster(t, func(c *cluster) {
		m := NewMonitor()
		c.addNodes(3)
		c.addSet()
		var cfg Config
		c.start(elect("one"), alone, func(k *Config) { k.Monitor, cfg = m, *k })
		c.run(20 * time.Second)
		c.editSet(image("agent:2"))
		c.removeNode("node-03")
		c.run(time.Minute)
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		var known []string
		for _, p := range cfg.permissions() {
			known = append(known, strings.TrimSuffix(p.Verb+" "+p.Resource+"/"+p.Subresource, "/"))
		}
		for name := range metrics(t, m) {
			rest, ok := strings.CutPrefix(name, "api_requests_total{code=200,resource=")
			if !ok {
				continue
			}
			resource, verb, _ := strings.Cut(strings.TrimSuffix(rest, "}"), ",verb=")
			if resource == runtimeClasses {
				continue // it works without this permission
			}
			if asked := verb + " " + resource; !slices.Contains(known, asked) && resource != "other" && resource != "selfsubjectaccessreviews" {
				t.Errorf("%s is asked for and not among the permissions %v", asked, known)
			}
		}
	})
}
