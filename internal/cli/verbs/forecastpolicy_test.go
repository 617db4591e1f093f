package verbs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"everynode/internal/forecast"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

const policyHead = "apiVersion: everynode.io/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: node-agents}\n"

func policyOf(t *testing.T, text string) (*givenPolicy, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readPolicy(nil, file)
}

func TestReadPolicy(t *testing.T) {
	if g, err := policyOf(t, policyHead+"spec: {}"); err != nil || g.policy.Name != "node-agents" || len(g.policy.Waves) != len(rollout.Default().Waves) {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := readPolicy(nil, "../../../examples/rollout-policy.yaml"); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ text, want string }{
		{"", `it has apiVersion "", kind "" and the name ""`},
		{"kind: [", "yaml"},
		{"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}", `kind "DaemonSet"`},
		{policyHead + "spec: {wave: []}", `unknown field "spec.wave"`},
		{policyHead + "spec: {waves: {}}", "cannot unmarshal object"},
		{policyHead + "spec: {waves: [{name: a, nodes: 5, soak: soon}]}", "invalid duration"},
		{policyHead + "spec: {waves: [{name: a, nodes: 0}], failure: {restarts: 0}}", "the policy cannot be followed:\n  spec.waves[0].nodes: 0 is too few; give at least 1\n  spec.waves[0].nodes: the last wave must be 100%"},
		{policyHead + "spec: {}\n---\n" + policyHead + "spec: {}", "more than one"},
	} {
		if _, err := policyOf(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
	if g, err := readPolicy(nil, ""); g != nil || err != nil {
		t.Errorf("no policy: %v, %v", g, err)
	}
}

func TestPolicyChooses(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Labels: map[string]string{"tier": "node"}}}
	annotated := ds.DeepCopy()
	annotated.Annotations = map[string]string{"everynode.io/rollout-policy": "node-agents"}
	elsewhere := ds.DeepCopy()
	elsewhere.Annotations = map[string]string{"everynode.io/rollout-policy": "another"}
	for _, c := range []struct {
		spec           string
		it, annotation bool
	}{
		{"{}", false, true},
		{"{daemonSets: {namespaces: [kube-system]}}", true, true},
		{"{daemonSets: {namespaces: [default]}}", false, true},
		{"{daemonSets: {selector: {matchLabels: {tier: node}}}}", true, true},
		{"{daemonSets: {namespaces: [kube-system], selector: {matchLabels: {tier: web}}}}", false, true},
	} {
		g, err := policyOf(t, policyHead+"spec: "+c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if g.object.Chooses(elsewhere) {
			t.Errorf("%s: chooses one that names another policy", c.spec)
		}
		if g.object.Chooses(ds) != c.it || g.object.Chooses(annotated) != c.annotation {
			t.Errorf("%s: chooses it %v, one with the annotation %v", c.spec, g.object.Chooses(ds), g.object.Chooses(annotated))
		}
	}
}

// follow makes s follow the policy, with pods that end at once.
func follow(s *setForecast, g *givenPolicy, ds *appsv1.DaemonSet, in *forecast.Input) {
	s.follow(g, ds, in, courseOf(*in, ds, g, 0))
}

func TestPolicyForecast(t *testing.T) {
	g, err := policyOf(t, policyHead+`spec:
  waves:
  - {name: canary, nodes: 1, soak: 30m, approval: true, cover: [zone]}
  - {name: all, nodes: 100%, oneAtATime: zone, soak: 1h}`)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	in := &forecast.Input{Now: at, Start: 10 * time.Second, Set: plan.Spec{Hash: "new", MaxUnavailable: plan.Amount{Value: 2}}}
	for i, name := range []string{"n1", "n2", "n3", "n4"} {
		in.Nodes = append(in.Nodes, plan.Node{Name: name, UID: name, Ready: true, Labels: map[string]string{"zone": []string{"x", "y"}[i/2]}})
		in.Pods = append(in.Pods, plan.Pod{Name: name, UID: name, Node: name, Hash: "old", Ready: true, Bound: true, Phase: plan.Running, ReadySince: at.Add(-time.Hour)})
	}
	s := &setForecast{}
	follow(s, g, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{UID: "uid"}}, in)
	var out bytes.Buffer
	for _, w := range s.Warnings {
		out.WriteString(w.Reason + ": " + w.Text + "\n")
	}
	if err := s.Policy.print(&out, 80); err != nil {
		t.Fatal(err)
	}
	const want = `PolicyIsForOthers: policy node-agents does not choose this DaemonSet; this is what it would do
NotCovered: wave canary covers no node with zone x
policy node-agents: done after 2h30m30s at the earliest (Thu 26 Nov 11:30 UTC)
WAVE     NODES   AT A TIME   STOPS AT   OPENS      SOAK     ENDS               FIRST
canary   1       1           1 failed   0s         30m0s    30m10s, approved   n3
all/x    2       2           1 failed   30m10s     1h0m0s   1h30m20s           n1, n2
all/y    1       1           1 failed   1h30m20s   1h0m0s   2h30m30s           n4
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
	s.Warnings, in.Assisted = nil, true
	in.Nodes[3].Labels = nil
	in.Set.Placement.Selector = map[string]string{"zone": "y"}
	follow(s, g, &appsv1.DaemonSet{}, in)
	var said []string
	for _, w := range s.Warnings {
		said = append(said, w.Reason)
	}
	if got := strings.Join(said, " "); got != "PolicyIsForOthers NotDriven NotHeld" {
		t.Errorf("beside another controller it warns of %s", got)
	}
	s.Warnings = nil
	surges, one := &appsv1.DaemonSet{}, intstr.FromInt32(1)
	surges.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &one}}
	follow(s, g, surges, in)
	if w := s.Warnings[1]; w.Reason != "NotDriven" || !strings.Contains(w.Text, "maxUnavailable is 0") {
		t.Errorf("of a surge beside another controller it warns of %+v", w)
	}
	g.policy.Waves[1].OneAtATime = "zones"
	if got := unknownLabels(&g.policy, in.Nodes); len(got) != 1 || got[0] != "zones" {
		t.Errorf("labels that no node has: %q", got)
	}
	g.policy.Waves[1].OneAtATime, g.policy.Waves[0].Prefer = "zone", map[string]string{"zone": "typo"}
	s.Warnings = nil
	follow(s, g, &appsv1.DaemonSet{}, in)
	if !slices.ContainsFunc(s.Warnings, func(w forecastWarning) bool {
		return w.Reason == "NoSuchLabel" && w.Text == "the policy asks for the label zone=typo, which no node has"
	}) {
		t.Errorf("of a zone that no node is in it warns of %+v", s.Warnings)
	}
	in.Pods, in.Assisted, out = nil, false, bytes.Buffer{}
	follow(s, g, &appsv1.DaemonSet{}, in)
	if err := s.Policy.print(&out, 80); err != nil || !strings.Contains(out.String(), "no waves") {
		t.Errorf("%s (%v)", out.String(), err)
	}
}

// The guard is said to hold what it would hold: pods that only the engine would remove, not those that go anyway.
func TestForecastOfTheGuard(t *testing.T) {
	g, err := policyOf(t, policyHead+"spec: {}")
	if err != nil {
		t.Fatal(err)
	}
	now := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}
	now.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}
	now.Spec.Template.Labels = now.Spec.Selector.MatchLabels
	now.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "pool", Operator: corev1.TolerationOpExists}}
	history, err := view.History(now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &forecastWorld{now: time.Now(), reader: &auditReader{}, live: map[string]*appsv1.DaemonSet{"default/agent": now}, pods: map[string][]corev1.Pod{}}
	for name, taint := range map[string]string{"n1": "pool", "n2": "pool", "n3": "pool", "n4": "repair", "n5": "repair", "gone": ""} {
		if taint != "" {
			w.nodes = append(w.nodes, plan.Node{Name: name, UID: name, Ready: true, Taints: []plan.Taint{{Key: taint, Effect: plan.NoExecute}}})
		}
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(now, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))},
			Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: history.Hash}}}
		p.Spec.NodeName, p.Status.Phase = name, corev1.PodRunning
		w.pods["default/agent"] = append(w.pods["default/agent"], p)
	}
	next := now.DeepCopy()
	next.Spec.Template.Spec.Tolerations = nil
	s, err := w.forecast(next, &forecastFlags{}, g)
	if err != nil {
		t.Fatal(err)
	}
	held := false
	for _, warning := range s.Warnings {
		held = held || warning.Reason == warnHeld && strings.Contains(warning.Text, "the pods of the 3 nodes that lose it")
	}
	if !held {
		t.Errorf("of three pods that still tolerate their taint it warns: %+v", s.Warnings)
	}
	if len(s.Left) != 3 || s.Left[0].Node != "n1" || s.Left[0].Reason != "HeldByGuard" || s.Nodes[forecast.Loses] != 3 {
		t.Errorf("three pods stay, and the three that are evicted or of a node that is gone do not: %+v, %+v", s.Left, s.Steps)
	}
}

// With a policy the engine creates pods of the stable revision until a release is complete. What only they need has to
// stay until then. Without a policy, and beside another controller, nobody creates such pods.
func TestForecastOfWhatIsStillNeeded(t *testing.T) {
	g, err := policyOf(t, policyHead+"spec: {}")
	if err != nil {
		t.Fatal(err)
	}
	uses := func(image string, configs ...string) *appsv1.DaemonSet {
		ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}
		ds.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}
		ds.Spec.Template.Labels = ds.Spec.Selector.MatchLabels
		c := corev1.Container{Name: "agent", Image: image}
		for _, name := range configs {
			c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
		}
		ds.Spec.Template.Spec.Containers = []corev1.Container{c}
		return ds
	}
	now, stable := uses("agent:2", "a", "b"), uses("agent:1", "z")
	revision, err := view.NewRevision(stable, 1)
	if err != nil {
		t.Fatal(err)
	}
	released := view.NewRollout(now)
	released.Status.Stable = revision.Labels[appsv1.ControllerRevisionHashLabelKey]
	of := func(hash string) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p", Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: hash},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(now, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}}}
		p.Spec.NodeName, p.Status.Phase = "n1", corev1.PodRunning
		return p
	}
	for _, c := range []struct {
		what, want string
		next       *appsv1.DaemonSet
		policy     *givenPolicy
		kept       []view.DaemonSetRollout
		assisted   bool
	}{
		{"one", "the new template no longer uses ConfigMap b, but pods of the stable revision do not start without it: keep it until the release is complete, for new and restarted nodes and for going back", uses("agent:3", "a", "c"), g, nil, false},
		{"two", "the new template no longer uses ConfigMap a, ConfigMap b, but pods of the stable revision do not start without them: keep them until the release is complete, for new and restarted nodes and for going back", uses("agent:3"), g, nil, false},
		{"none", "", uses("agent:3", "a", "b"), g, nil, false},
		{"without a policy", "", uses("agent:3"), nil, nil, false},
		{"beside another controller", "", uses("agent:3"), g, nil, true},
		{"that of a release that is under way", "the new template no longer uses ConfigMap z, but pods of the stable revision do not start without it: keep it until the release is complete, for new and restarted nodes and for going back", uses("agent:3"), g, []view.DaemonSetRollout{*released}, false},
	} {
		w := &forecastWorld{now: time.Now(), reader: &auditReader{}, live: map[string]*appsv1.DaemonSet{"default/agent": now}, nodes: []plan.Node{{Name: "n1", UID: "n1", Ready: true}},
			pods:      map[string][]corev1.Pod{"default/agent": {of("another")}},
			templates: map[string][]appsv1.ControllerRevision{"default": {*revision}}, kept: c.kept, assisted: c.assisted}
		s, err := w.forecast(c.next, &forecastFlags{}, c.policy)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, warning := range s.Warnings {
			if warning.Reason == warnNeeded {
				got += warning.Text
			}
		}
		if got != c.want {
			t.Errorf("%s: it warns %q, want %q", c.what, got, c.want)
		}
	}
}

// Beside another controller the template alone decides which nodes have a pod: those that lose it are in no wave. The engine that
// creates the pods itself takes them away in waves.
func TestForecastOfNodesThatLoseTheirPod(t *testing.T) {
	g, err := policyOf(t, policyHead+"spec: {}")
	if err != nil {
		t.Fatal(err)
	}
	for assisted, want := range map[bool]int{true: 2, false: 3} {
		now := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: "uid"}}
		now.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}
		now.Spec.Template.Labels = now.Spec.Selector.MatchLabels
		now.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
		next := now.DeepCopy()
		next.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "a"}
		w := &forecastWorld{now: time.Now(), reader: &auditReader{}, live: map[string]*appsv1.DaemonSet{"default/agent": now}, pods: map[string][]corev1.Pod{}, assisted: assisted}
		for name, pool := range map[string]string{"n1": "a", "n2": "a", "n3": "b"} {
			w.nodes = append(w.nodes, plan.Node{Name: name, UID: name, Ready: true, Labels: map[string]string{"pool": pool}})
			p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: "old"},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(now, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}}}
			p.Spec.NodeName, p.Status.Phase = name, corev1.PodRunning
			w.pods["default/agent"] = append(w.pods["default/agent"], p)
		}
		s, err := w.forecast(next, &forecastFlags{}, g)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Policy.Waves[len(s.Policy.Waves)-1].Total; got != want {
			t.Errorf("beside another controller %v: %d nodes in the waves, want %d", assisted, got, want)
		}
	}
}

// A wave that is smaller than an earlier one on the nodes that there are is a warning.
func TestWavesThatAddNothing(t *testing.T) {
	g, err := policyOf(t, policyHead+`spec: {waves: [{name: some, nodes: 5}, {name: tenth, nodes: 10%}, {name: all, nodes: 100%}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for nodes, want := range map[int]string{
		20: "WaveAddsNothing: wave tenth is up to 2 of the 20 nodes, but 5 have the new version before it begins: it adds no node, and only soaks",
		50: "", // as many as before
		60: "",
	} {
		at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
		in := &forecast.Input{Now: at, Start: 10 * time.Second, Set: plan.Spec{Hash: "new", MaxUnavailable: plan.Amount{Value: 5}}}
		for i := range nodes {
			name := fmt.Sprint("n", i)
			in.Nodes = append(in.Nodes, plan.Node{Name: name, UID: name, Ready: true})
			in.Pods = append(in.Pods, plan.Pod{Name: name, UID: name, Node: name, Hash: "old", Ready: true, Bound: true, Phase: plan.Running, ReadySince: at.Add(-time.Hour)})
		}
		s, got := &setForecast{}, ""
		follow(s, g, &appsv1.DaemonSet{}, in)
		for _, w := range s.Warnings {
			if w.Reason == warnAddsNothing {
				got += w.Reason + ": " + w.Text
			}
		}
		if got != want {
			t.Errorf("%d nodes: %q, want %q", nodes, got, want)
		}
	}
}

// Without --policy plan uses the cluster's policy, chosen in the same way as the
// engine chooses it.
func TestFollowedPolicy(t *testing.T) {
	const forAll, forNamed, wrong = "name: all/{daemonSets: {namespaces: [default]}}", "name: named/{}", "name: wrong/{daemonSets: {namespaces: [default]}, waves: [{name: a, nodes: 5%}]}"
	for _, c := range []struct {
		what     string
		policies []string
		names    string // the policy that the DaemonSet names
		want     string
	}{
		{"none", nil, "", ""},
		{"one that chooses it", []string{forNamed, forAll}, "", "all"},
		{"one that it names, before one that chooses it", []string{forNamed, forAll}, "named", "named"},
		{"one for others", []string{forNamed}, "", ""},
		{"two", []string{forAll, wrong}, "", "policies all, wrong choose this DaemonSet"},
		{"one that cannot be followed", []string{wrong}, "", "policy wrong cannot be followed: "},
		{"one that is not there", []string{forAll}, "gone", "the cluster has no policy gone"},
	} {
		w, s, ds := &forecastWorld{reader: &auditReader{}}, &setForecast{}, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}
		w.reader.in.Policies = []view.RolloutPolicy{}
		for _, text := range c.policies {
			name, spec, _ := strings.Cut(text, "/")
			var o view.RolloutPolicy
			if err := yaml.Unmarshal([]byte("{metadata: {"+name+"}, spec: "+spec+"}"), &o); err != nil {
				t.Fatal(err)
			}
			w.reader.in.Policies = append(w.reader.in.Policies, o)
		}
		if c.names != "" {
			ds.Annotations = map[string]string{view.PolicyAnnotation: c.names}
		}
		got := ""
		if g := w.followed(ds, s); g != nil {
			got = g.policy.Name
		}
		for _, warning := range s.Warnings {
			got += warning.Text
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
