package view

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"sigs.k8s.io/yaml"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

func readPolicy(t *testing.T, spec string) (rollout.Policy, []string) {
	t.Helper()
	var o RolloutPolicy
	if err := yaml.UnmarshalStrict([]byte("metadata: {name: p, generation: 3}\nspec: "+spec), &o); err != nil {
		t.Fatal(err)
	}
	return Policy(&o)
}

const wholePolicy = `
  daemonSets: {namespaces: [kube-system], selector: {matchLabels: {tier: node-agent}}}
  waves:
  - {name: canary, nodes: 3, prefer: {matchLabels: {canary: "true"}}, cover: [zone], soak: 30m, approval: true}
  - {name: rest, nodes: 100%, oneAtATime: zone}
  failure: {nodes: 5%, startWithin: 2m, restarts: 4, then: Rollback}
  windows: [{days: [Mon, Sun], from: "09:00", to: "24:00", timeZone: Europe/Berlin}]
  guard: {removals: 7}`

func TestPolicy(t *testing.T) {
	p, wrong := readPolicy(t, wholePolicy)
	if wrong != nil {
		t.Fatal(wrong)
	}
	zone := p.Windows[0].Zone
	all := plan.Amount{Value: 100, Percent: true}
	want := rollout.Policy{Name: "p", Generation: 3,
		Waves: []rollout.Wave{{Name: "canary", Nodes: plan.Amount{Value: 3}, Prefer: map[string]string{"canary": "true"}, Cover: []string{"zone"}, Soak: 30 * time.Minute, Approval: true},
			{Name: "rest", Nodes: all, OneAtATime: "zone"}},
		Failure:  rollout.Failure{Nodes: plan.Amount{Value: 5, Percent: true}, StartWithin: 2 * time.Minute, Restarts: 4, Back: true},
		Windows:  []rollout.Window{{Days: []time.Weekday{time.Monday, time.Sunday}, From: 540, To: 1440, Zone: zone}},
		Removals: plan.Amount{Value: 7}}
	if !reflect.DeepEqual(p, want) || zone.String() != "Europe/Berlin" {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	byDefault, wrong := readPolicy(t, "{}")
	want = rollout.Default()
	want.Name, want.Generation = "p", 3
	if wrong != nil || !reflect.DeepEqual(byDefault, want) {
		t.Errorf("an empty policy: %+v, %v", byDefault, wrong)
	}
}

func TestPolicyWrong(t *testing.T) {
	if _, wrong := readPolicy(t, "{waves: [{name: a, nodes: ten}, {name: b, nodes: 0}], failure: {restarts: 0}}"); len(wrong) != 4 {
		t.Errorf("four things are wrong, and these are said: %q", wrong)
	}
	text, err := os.ReadFile("testdata/badpolicies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Spec                json.RawMessage
		Says, Field, Server string
	}
	if err := yaml.UnmarshalStrict(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		var o RolloutPolicy
		if err := yaml.UnmarshalStrict([]byte(`{"metadata": {"name": "p"}, "spec": `+string(c.Spec)+"}"), &o); err != nil {
			if !strings.Contains(err.Error(), c.Says) {
				t.Errorf("%s: %v, want %q", c.Spec, err, c.Says)
			}
			continue
		}
		if _, wrong := Policy(&o); len(wrong) == 0 || !strings.HasPrefix(wrong[0], c.Says) {
			t.Errorf("%s: %q, want %q", c.Spec, wrong, c.Says)
		}
	}
}
