package verbs

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/forecast"
	"everynode/internal/plan"
)

func TestCopyDaemonSets(t *testing.T) {
	const manifest = `
# a comment alone
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: config}, items: kept}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: one}}
---
{apiVersion: v1, kind: List, items: [{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: two}}, {apiVersion: v1, kind: Pod}]}
---
{apiVersion: apps/v1, kind: DaemonSetList, items: [{metadata: {name: three}}, {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: four}}]}
`
	var out bytes.Buffer
	if err := copyDaemonSets(&out, []byte(manifest)); err != nil {
		t.Fatal(err)
	}
	const want = `---
{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"one"}}
---
{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"two"}}
---
{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"three"}}
---
{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"four"}}
`
	if out.String() != want {
		t.Errorf("got %s", out.String())
	}
}

func TestStartOf(t *testing.T) {
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	ready := func(after time.Duration) plan.Pod {
		return plan.Pod{Created: at, Ready: true, ReadySince: at.Add(after)}
	}
	pods := []plan.Pod{ready(9 * time.Second), {Created: at}, ready(time.Hour), ready(3 * time.Second), {Created: at, Ready: true}}
	if d, n := startOf([]plan.Pod{ready(0), ready(0), ready(2 * time.Second)}, nil); d != time.Second || n != 3 {
		t.Errorf("of pods that take less than a second the middle is %s of %d", d, n)
	}
	if d, n := startOf(pods, nil); d != 9*time.Second || n != 3 {
		t.Errorf("the middle is %s of %d", d, n)
	}
	for _, given := range []time.Duration{0, time.Second} {
		if d, n := startOf(pods, &given); d != given || n != 0 {
			t.Errorf("given %s is %s of %d", given, d, n)
		}
	}
	if d, n := startOf(nil, nil); d != assumedStart || n != 0 {
		t.Errorf("assumed is %s of %d", d, n)
	}
}

// A time of zero that the user gives is not one that is left out.
func TestForecastOfNoTime(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}
	ds.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}
	ds.Spec.Template.Labels = ds.Spec.Selector.MatchLabels
	old := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p", Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: "before"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}}}
	old.Spec.NodeName, old.Status.Phase = "n1", corev1.PodRunning
	w := &forecastWorld{now: time.Now(), reader: &auditReader{}, nodes: []plan.Node{{Name: "n1", UID: "n1", Ready: true}}, pods: map[string][]corev1.Pod{"default/agent": {old}}}
	zero, second := time.Duration(0), time.Second
	for _, tc := range []struct {
		f           forecastFlags
		least, most float64
	}{
		{forecastFlags{}, 10, 40}, // a guess, and the usual grace period
		{forecastFlags{stop: &zero}, 10, 10},
		{forecastFlags{start: &zero}, 0, 30},
		{forecastFlags{start: &zero, stop: &zero}, 0, 0},
		{forecastFlags{start: &second, stop: &second}, 2, 2},
	} {
		s, err := w.forecast(ds, &tc.f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.AtLeast != tc.least || s.AtMost != tc.most || len(s.Left) > 0 {
			t.Errorf("%+v takes from %gs to %gs, want %g to %g; left: %+v", tc.f, s.AtLeast, s.AtMost, tc.least, tc.most, s.Left)
		}
	}
}

func TestForecastText(t *testing.T) {
	ends := 10.0
	s := setForecast{Namespace: "kube-system", Name: "agent", Exists: true, MostDown: 4, AtLeast: 70, AtMost: 400, Start: 8, StartOf: 5,
		Nodes:    map[forecast.Change]int{forecast.Replaces: 5, forecast.Loses: 1},
		Warnings: []forecastWarning{{warnNotFinished, "1 node would not get there by itself, see below"}},
		Left:     []forecastLeft{{"f", "NotReady", "", ""}}}
	for _, node := range []string{"a", "b", "c", "d"} {
		s.Steps = append(s.Steps, forecastStep{Node: node, Reason: "Outdated", Ends: &ends})
	}
	s.Steps = append(s.Steps, forecastStep{Node: "e", Reason: "Outdated", Begins: 60}, forecastStep{Node: "g", Change: forecast.Loses, Reason: "NotSelected", Detail: "ssd", Begins: 60})
	var short, wide bytes.Buffer
	if err := s.print(&short, 100, false); err != nil {
		t.Fatal(err)
	}
	const want = `kube-system/agent: 5 pods replaced, 1 pod removed; at most 4 nodes without one at a time; about
1m10s, up to 6m40s if pods are slow to end (a pod is ready after 8s: the middle of 5)
warning: NotFinished: 1 node would not get there by itself, see below
AFTER   NODES                POD        REASON        DETAIL
0s      a, b, c and 1 more   replaced   Outdated      
1m0s    e                    replaced   Outdated      
1m0s    g                    removed    NotSelected   ssd
STAYS   REASON     DETAIL
f       NotReady   
`
	if short.String() != want {
		t.Errorf("got\n%s", short.String())
	}
	if err := s.print(&wide, 100, true); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(wide.String(), "\n"); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "0s      d ") }) {
		t.Errorf("wide is\n%s", wide.String())
	}
}

func TestPlayWarnings(t *testing.T) {
	reasons := func(set plan.Spec, fast, slow forecast.Forecast) (names []string) {
		for _, w := range playWarnings(&course{Forecast: &fast, strategy: set.Strategy}, &course{Forecast: &slow}) {
			names = append(names, w.Reason)
		}
		return names
	}
	left := []forecast.Left{{Node: "a"}}
	for _, c := range []struct {
		name string
		got  []string
		want []string
	}{
		{"all is well", reasons(plan.Spec{}, forecast.Forecast{}, forecast.Forecast{Took: helmTimeout}), nil},
		{"slow", reasons(plan.Spec{}, forecast.Forecast{}, forecast.Forecast{Took: helmTimeout + time.Second}), []string{warnHelmTimeout}},
		{"removes", reasons(plan.Spec{}, forecast.Forecast{Steps: []forecast.Step{{Change: forecast.Loses}}}, forecast.Forecast{}), []string{warnRemovesPods}},
		{"stuck", reasons(plan.Spec{}, forecast.Forecast{Left: left}, forecast.Forecast{}), []string{warnNotFinished}},
		{"held by a guard", reasons(plan.Spec{}, forecast.Forecast{Left: []forecast.Left{{Node: "a", Reason: plan.HeldByGuard}}}, forecast.Forecast{}), nil},
		{"by hand", reasons(plan.Spec{Strategy: plan.OnDelete}, forecast.Forecast{Left: left}, forecast.Forecast{}), []string{warnNotFinished}},
		{"in place", reasons(plan.Spec{}, forecast.Forecast{Steps: []forecast.Step{{Reason: plan.OutdatedInPlace}}}, forecast.Forecast{}), []string{warnNotAsked}},
		{"endless", reasons(plan.Spec{}, forecast.Forecast{Endless: true}, forecast.Forecast{}), []string{warnNotFinished}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}
