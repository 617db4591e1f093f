package view

import (
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
	for _, c := range []struct{ spec, want string }{
		{"{daemonSets: {}}", "spec.daemonSets: it chooses every DaemonSet"},
		{"{daemonSets: {selector: {}}}", "spec.daemonSets: it chooses every DaemonSet"},
		{"{daemonSets: {selector: {matchExpressions: [{key: a, operator: Like}]}}}", "spec.daemonSets.selector: \"Like\" is not a valid"},
		{"{waves: []}", "spec.waves: there is none"},
		{"{waves: [{name: a, nodes: ten}]}", `spec.waves[0].nodes: "ten" is neither a number nor a percentage`},
		{"{waves: [{name: a, nodes: -1}]}", "spec.waves[0].nodes: -1 is out of range"},
		{"{waves: [{name: a, nodes: 0}, {name: b, nodes: 100%}]}", "spec.waves[0].nodes: 0 is too few"},
		{"{waves: [{name: a, nodes: 101%}]}", "spec.waves[0].nodes: 101% is more than all"},
		{`{waves: [{name: "*", nodes: 100%}]}`, `spec.waves[0].name: "*": a lowercase RFC 1123 label`},
		{"{waves: [{name: a, nodes: 100%, oneAtATime: a b}]}", `spec.waves[0]: "a b" is not the key of a label`},
		{"{waves: [{name: a, nodes: 100%, cover: ['']}]}", `spec.waves[0]: "" is not the key of a label`},
		{"{failure: {then: Explode}}", `spec.failure.then: "Explode" is neither Pause nor Rollback`},
		{"{failure: {startWithin: 0s}}", "spec.failure.startWithin: 0s is too short"},
		{"{failure: {restarts: 0}}", "spec.failure.restarts: 0"},
		{"{guard: {removals: 200%}}", "spec.guard.removals: 200% is more than all"},
		{`{windows: [{from: "9:00", to: "10:00", timeZone: UTC}]}`, `spec.windows[0].from: "9:00" is not a time like 09:00`},
		{`{windows: [{from: "09:00", to: "25:00", timeZone: UTC}]}`, `spec.windows[0].to: "25:00" is not a time like 09:00`},
		{`{windows: [{from: "09:00", to: "09:00", timeZone: UTC}]}`, "spec.windows[0]: from 09:00 to 09:00 is never open"},
		{`{windows: [{from: "24:00", to: "09:00", timeZone: UTC}]}`, "spec.windows[0]: from 24:00 to 09:00 is never open"},
		{`{windows: [{from: "09:00", to: "10:00", timeZone: Mars/Olympus}]}`, `spec.windows[0].timeZone: "Mars/Olympus" is not the name`},
		{`{windows: [{from: "09:00", to: "10:00", timeZone: ""}]}`, `spec.windows[0].timeZone: "" is not the name`},
		{`{windows: [{days: [Monday], from: "09:00", to: "10:00", timeZone: UTC}]}`, `spec.windows[0].days: "Monday" is none of Mon`},
	} {
		if _, wrong := readPolicy(t, c.spec); len(wrong) == 0 || !strings.HasPrefix(wrong[0], c.want) {
			t.Errorf("%s: %q, want %q", c.spec, wrong, c.want)
		}
	}
}
