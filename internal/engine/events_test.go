package engine

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/plan"
)

// Who reads the events of a DaemonSet whose pods do not meet the standard of their
// namespace learns which label allows them.
func TestEventNamesTheLabel(t *testing.T) {
	to := record.NewFakeRecorder(1)
	r := &recorder{to: to, allowances: map[types.UID]flowcontrol.PassiveRateLimiter{}}
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent"}}
	const refusal = `pods "agent-" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes (volume "logs")`
	r.failed(&write{ds: ds, create: &plan.Create{Node: "a"}}, errors.New(refusal))
	want := "Warning FailedCreate Error creating: node a: " + refusal + "; if its pods may do that: kubectl label namespace apps pod-security.kubernetes.io/enforce=privileged --overwrite"
	if got := <-to.Events; got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
}
