package view

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/admission"
	podsecurityapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"
)

// refusalOf returns what Kubernetes' own admission says about a pod that a standard
// refuses.
func refusalOf(t *testing.T, standard podsecurityapi.Level, spec corev1.PodSpec) error {
	t.Helper()
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &admission.Admission{Evaluator: checks, Metrics: metrics.NewPrometheusRecorder(podsecurityapi.LatestVersion())}
	version := podsecurityapi.LevelVersion{Level: standard, Version: podsecurityapi.LatestVersion()}
	r := a.EvaluatePod(context.Background(), podsecurityapi.Policy{Enforce: version}, nil, &metav1.ObjectMeta{}, &spec, &podsecurityapi.AttributesRecord{}, true)
	if r.Allowed {
		t.Fatal("the pod is allowed")
	}
	return errors.New(`pods "agent-" is forbidden: ` + r.Result.Message)
}

// Upstream's message about a refused pod leads to the label that allows it.
func TestAllowCommand(t *testing.T) {
	host := corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}},
		Volumes: []corev1.Volume{{Name: "logs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}}}}
	plain := corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}
	const label = "kubectl label namespace apps pod-security.kubernetes.io/enforce="
	for name, c := range map[string]struct {
		refusal error
		want    string
	}{
		"baseline":       {refusalOf(t, podsecurityapi.LevelBaseline, host), label + "privileged --overwrite"},
		"restricted":     {refusalOf(t, podsecurityapi.LevelRestricted, plain), label + "baseline --overwrite"},
		"a quota":        {errors.New(`pods "agent-" is forbidden: exceeded quota: q`), ""},
		"somebody's own": {errors.New(`admission webhook "w" denied the request: PodSecurity`), ""},
	} {
		if got := AllowCommand("apps", c.refusal.Error()); got != c.want {
			t.Errorf("%s: %q, want %q; it was %v", name, got, c.want, c.refusal)
		}
		told := WithAllowCommand("apps", c.refusal)
		if !errors.Is(told, c.refusal) || !strings.HasSuffix(told.Error(), c.want) {
			t.Errorf("%s: %v", name, told)
		}
		got, ok := ReadTold(&corev1.Event{Message: RefusedText(RefusedCreate, "a", told)})
		if !ok || got.Detail != c.refusal.Error() {
			t.Errorf("%s: %q is read from the event, want %q", name, got.Detail, c.refusal)
		}
	}
}
