package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"everynode/deploy"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

var (
	policiesResource = schema.GroupVersionResource{Group: "everynode.io", Version: "v1alpha1", Resource: view.PolicyResource}
	rolloutsResource = schema.GroupVersionResource{Group: "everynode.io", Version: "v1alpha1", Resource: view.RolloutResource}
	setsResource     = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
)

// rolloutKinds is a client for the kinds of releases in waves, which it has installed.
type rolloutKinds struct {
	*lab
	policies, rollouts dynamic.ResourceInterface
}

func newRolloutKinds(t *testing.T) *rolloutKinds {
	l := newLab(t)
	client, err := dynamic.NewForConfig(l.config)
	l.do(err)
	kinds := client.Resource(definitions)
	d := &rolloutKinds{lab: l, policies: client.Resource(policiesResource), rollouts: client.Resource(rolloutsResource).Namespace(namespace)}
	for _, text := range [][]byte{deploy.RolloutPolicies, deploy.DaemonSetRollouts} {
		o := &unstructured.Unstructured{}
		l.do(yaml.Unmarshal(text, &o.Object))
		_, err := kinds.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "test", Force: true})
		l.do(err)
		t.Cleanup(func() { l.removeKind(kinds, o.GetName()) })
	}
	for _, r := range []dynamic.ResourceInterface{d.policies, d.rollouts} {
		l.until("the kind is served", func() bool {
			_, err := r.List(t.Context(), metav1.ListOptions{})
			return err == nil
		})
	}
	return d
}

// removeKind removes the kind, and returns when nothing of it is left: the next test creates it again.
func (l *lab) removeKind(kinds dynamic.ResourceInterface, name string) {
	ctx := context.WithoutCancel(l.t.Context())
	if err := kinds.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		l.t.Error(err)
	}
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		_, err := kinds.Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		l.t.Errorf("%s stays: %v", name, err)
	}
}

// make creates an object, and returns the API server's answer. Unknown fields are errors.
func (d *rolloutKinds) make(in dynamic.ResourceInterface, kind, name, spec string) (*unstructured.Unstructured, error) {
	d.t.Helper()
	o := &unstructured.Unstructured{}
	d.do(yaml.Unmarshal([]byte("{apiVersion: everynode.io/v1alpha1, kind: "+kind+", metadata: {name: "+name+"}, spec: "+spec+"}"), &o.Object))
	return in.Create(d.t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
}

// causes returns the fields that the API server finds wrong, each with the reason.
func causes(err error) (all []string) {
	status, ok := err.(apierrors.APIStatus)
	if !ok || status.Status().Details == nil {
		return nil
	}
	for _, c := range status.Status().Details.Causes {
		all = append(all, c.Field+": "+c.Message)
	}
	return all
}

func (d *rolloutKinds) refuses(err error, spec, field, says string) {
	d.t.Helper()
	if !slices.ContainsFunc(causes(err), func(s string) bool { return strings.HasPrefix(s, field+": ") && strings.Contains(s, says) }) {
		d.t.Errorf("%s: %q (%v), want %q at %s", spec, causes(err), err, says, field)
	}
}

// TestPolicyDefinition compares the schema of policies with the code that reads them.
func TestPolicyDefinition(t *testing.T) {
	d := newRolloutKinds(t)
	text, err := os.ReadFile("../view/testdata/badpolicies.yaml")
	d.do(err)
	var bad []struct {
		Spec                json.RawMessage
		Says, Field, Server string
	}
	d.do(yaml.UnmarshalStrict(text, &bad))
	for _, c := range bad {
		_, err := d.make(d.policies, view.PolicyKind, "bad", string(c.Spec))
		switch {
		case c.Field == "" && err == nil:
			d.do(d.policies.Delete(t.Context(), "bad", metav1.DeleteOptions{}))
		case c.Field == "":
			t.Errorf("%s: it is told here, and the table says that it cannot be: %v", c.Spec, err)
		default:
			d.refuses(err, string(c.Spec), c.Field, c.Server)
		}
	}
	for name, spec := range map[string]string{
		"empty": "{}",
		"whole": `{daemonSets: {namespaces: [kube-system], selector: {matchLabels: {tier: node-agent}, matchExpressions: [{key: a, operator: Exists}]}},
  waves: [{name: canary, nodes: 3, prefer: {matchLabels: {example.com/canary: "true"}}, cover: [topology.kubernetes.io/zone, kubernetes.io/arch], soak: 1h30m, approval: true},
    {name: third, nodes: 34%}, {name: half, nodes: 50, soak: 1.5h}, {name: most, nodes: 90%}, {name: rest, nodes: 100%, oneAtATime: zone, soak: 0s}],
  failure: {nodes: 0, startWithin: 2m, restarts: 4, then: Rollback},
  windows: [{days: [Mon, Sun], from: "09:00", to: "24:00", timeZone: Europe/Berlin}, {from: "22:00", to: "04:00", timeZone: UTC}], guard: {removals: 0}}`,
	} {
		o, err := d.make(d.policies, view.PolicyKind, name, spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var read view.RolloutPolicy
		d.do(runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &read, true))
		if _, wrong := view.Policy(&read); wrong != nil || name == "empty" && len(o.Object["spec"].(map[string]any)) != 0 {
			t.Errorf("%s: %q, %v", name, wrong, o.Object["spec"])
		}
	}
	d.example("../../examples/rollout-policy.yaml")
	if _, err := d.make(d.policies, view.PolicyKind, "typo", "{wave: []}"); err == nil || !strings.Contains(err.Error(), `unknown field "spec.wave"`) {
		t.Errorf("a typo: %v", err)
	}
}

func (d *rolloutKinds) example(file string) {
	d.t.Helper()
	text, err := os.ReadFile(file)
	d.do(err)
	o := &unstructured.Unstructured{}
	d.do(yaml.Unmarshal(text, &o.Object))
	if _, err := d.policies.Create(d.t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		d.t.Errorf("%s: %v", file, err)
	}
}

// TestRolloutDefinition: users write the spec and not the status, the engine the status and not the spec, and no
// field of either is lost.
func TestRolloutDefinition(t *testing.T) {
	d := newRolloutKinds(t)
	for _, c := range []struct{ spec, field, says string }{
		{"{promote: {release: 3}}", "spec.promote", "it names either a wave or all"},
		{"{promote: {release: 3, wave: a, all: true}}", "spec.promote", "it names either a wave or all"},
		{"{promote: {wave: a}}", "spec.promote.release", "Required value"},
		{"{abort: 0}", "spec.abort", "should be greater than or equal to 1"},
		{"{abort: true}", "spec.abort", "must be of type int32"},
		{"{resume: {release: 1}}", "spec.resume.stop", "Required value"},
		{"{allowRemovals: {nodes: 3}}", "spec.allowRemovals.before", "Required value"},
	} {
		_, err := d.make(d.rollouts, view.RolloutKind, "bad", c.spec)
		d.refuses(err, c.spec, c.field, c.says)
	}
	ds := agent()
	ds.UID = "u1"
	made, err := runtime.DefaultUnstructuredConverter.ToUnstructured(view.NewRollout(ds))
	d.do(err)
	o, err := d.rollouts.Create(t.Context(), &unstructured.Unstructured{Object: made}, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	d.do(err)
	d.statusIsKept(o)
	d.endpoints()
}

// statusIsKept writes a status with every field, and reads it back.
func (d *rolloutKinds) statusIsKept(o *unstructured.Unstructured) {
	d.t.Helper()
	p := rollout.Default()
	p.Name, p.Generation = "node-agents", 7
	now := metav1.Now()
	state := rollout.State{Stable: "a", Target: "b", Release: 3, Phase: rollout.Halted, Reason: rollout.TooManyFailed, Wave: "first", Group: "eu", Quota: 4,
		Opened: now.UTC().Truncate(1e9), Soaked: 90e9, Stops: 2, Stopped: true, Unsure: true, Forgiven: 5, Back: true, WhyBack: rollout.FailedBack, Reverting: true, Ignored: "that"}
	status := view.RolloutStatus(&view.DaemonSetRolloutStatus{}, &state, &view.RolloutReport{Generation: 1, Policy: &p, Now: now.Time, Nodes: view.RolloutNodes{Eligible: 1, Exposed: 2, Well: 3, UnderWay: 4, Failed: 5, Other: 6},
		Failures: []view.RolloutFailure{{Node: "n1", Reason: "CrashLoopBackOff", Message: "exit 1", Since: now}}})
	whole, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	d.do(err)
	o.Object["status"] = whole
	_, err = d.rollouts.UpdateStatus(d.t.Context(), o, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
	d.do(err)
	back, err := d.rollouts.Get(d.t.Context(), o.GetName(), metav1.GetOptions{})
	d.do(err)
	var read view.DaemonSetRollout
	d.do(runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(back.Object, &read, true))
	if got, err := view.RolloutState(&read); err != nil || got != state {
		d.t.Errorf("written: %+v\nread:    %+v (%v)", state, got, err)
	}
	was, _ := json.Marshal(status)
	if is, _ := json.Marshal(read.Status); !bytes.Equal(was, is) {
		d.t.Errorf("written: %s\nread:    %s", was, is)
	}
}

// endpoints: a write to each endpoint changes only that endpoint's part.
func (d *rolloutKinds) endpoints() {
	d.t.Helper()
	both := []byte(`{"spec": {"paused": true}, "status": {"phase": "Idle"}}`)
	patch := func(sub ...string) (paused bool, phase string, generation int64) {
		o, err := d.rollouts.Patch(d.t.Context(), "agent", types.MergePatchType, both, metav1.PatchOptions{}, sub...)
		d.do(err)
		paused, _, _ = unstructured.NestedBool(o.Object, "spec", "paused")
		phase, _, _ = unstructured.NestedString(o.Object, "status", "phase")
		return paused, phase, o.GetGeneration()
	}
	if paused, phase, generation := patch("status"); paused || phase != "Idle" || generation != 1 {
		d.t.Errorf("status: paused %v, phase %s, generation %d", paused, phase, generation)
	}
	both = []byte(`{"spec": {"paused": true}, "status": {"phase": "Held"}}`)
	if paused, phase, generation := patch(); !paused || phase != "Idle" || generation != 2 {
		d.t.Errorf("spec: paused %v, phase %s, generation %d", paused, phase, generation)
	}
}
