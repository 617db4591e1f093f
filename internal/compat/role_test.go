package compat

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"everynode/internal/engine"
)

// TestRole compares the roles of deploy/ with the engine's requests, in both
// directions: nothing is denied, and there is no verb that the engine never used. The
// API server enforces RBAC and OwnerReferencesPermissionEnforcement.
func TestRole(t *testing.T) {
	d := newRolloutKinds(t)
	l := d.lab
	roles := readRoles(t, deployedRoles, "everynode-controller")
	l.dropTraces() // they are created only once, and may exist already
	g := newGuard()
	elected := controller{"ours, elected", func(ctx context.Context, _ *testing.T, config *rest.Config) error {
		g.put(config)
		return engine.Run(ctx, engine.Config{Client: config, LeaderElect: true, Alone: true, AloneAfter: time.Second,
			Monitor: engine.NewMonitor(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	}}
	d.everything(elected, g)

	// The engine sends no request for finalizers, but admission requires the right.
	// See below.
	d.keepsTo(g, deployedRoles, "daemonsets.apps/finalizers")
	t.Run("without finalizers", func(t *testing.T) { withoutFinalizers(t, l, roles, elected, g) })
}

// everything makes the engine do everything that it can do, with its role.
func (d *rolloutKinds) everything(c controller, g *guard) {
	l := d.lab
	l.t.Helper()
	l.staleProbe()
	g.twice.Insert("POST pods", "POST controllerrevisions")
	leader := l.begin(c, agent(rolling(1, 0)), "n1", "n2", "n3")
	g.mu.Lock()
	g.old = true
	g.mu.Unlock()
	standby := l.start(c)
	leader.stop()
	l.roll("agent:2")
	limit := int32(0)
	l.edit(rolling(0, 1), image("agent:1"))
	l.until("the rollback, with surge, is done", func() bool { return l.everywhere("agent:1") })
	l.do(l.client.AppsV1().DaemonSets(namespace).Delete(l.t.Context(), "agent", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)}))
	l.orphan()
	again := agent(rolling(1, 0))
	again.Spec.RevisionHistoryLimit = &limit
	before := l.uids()
	l.create(again)
	l.until("pods and history are adopted", func() bool { return l.owned(len(before)) })
	l.roll("agent:3")
	l.until("the history is pruned", func() bool { return len(l.revisions()) == 1 })

	failed := l.podOn("n2")
	l.do(setReady(l.t.Context(), l.client, failed, corev1.PodFailed, corev1.ConditionFalse))
	l.until("the failed pod is replaced", func() bool { return l.everywhere("agent:3") && l.podOn("n2").UID != failed.UID })
	l.removeNode("n3")
	l.until("the pod of the deleted node is gone", func() bool { return l.everywhere("agent:3") })
	l.overQuota()
	_, err := d.make(d.policies, "RolloutPolicy", "waves", twoWaves)
	l.do(err)
	l.edit(follows)
	d.stands(0, "Idle", "")
	standby.stop()
}

// staleProbe leaves a probe of another engine. Ours removes it before it creates its
// own.
func (l *lab) staleProbe() {
	l.t.Helper()
	sets := l.client.AppsV1().DaemonSets("kube-system")
	probe := agent()
	probe.Namespace, probe.Name = "kube-system", "everynode-controller-probe"
	probe.Spec.Template.Spec.NodeSelector = map[string]string{"no": "node"}
	_, err := sets.Create(l.t.Context(), probe, metav1.CreateOptions{})
	l.do(err)
	l.t.Cleanup(func() {
		if err := sets.Delete(context.WithoutCancel(l.t.Context()), probe.Name, metav1.DeleteOptions{}); err != nil {
			l.t.Error(err)
		}
	})
}

// dropTraces removes the lease and the probe that another test may have left.
func (l *lab) dropTraces() {
	l.t.Helper()
	for _, err := range []error{
		l.client.CoordinationV1().Leases("kube-system").Delete(l.t.Context(), "everynode-controller", metav1.DeleteOptions{}),
		l.client.AppsV1().DaemonSets("kube-system").Delete(l.t.Context(), "everynode-controller-probe", metav1.DeleteOptions{}),
	} {
		if !apierrors.IsNotFound(err) {
			l.do(err)
		}
	}
}

// roll updates the DaemonSet and waits until the update is done.
func (l *lab) roll(to string) {
	l.t.Helper()
	l.edit(image(to))
	l.until("the update to "+to+" is done", func() bool { return l.everywhere(to) })
}

// orphan does the garbage collector's part when a deletion orphans: it removes the
// owner from the DaemonSet's objects, and lets the DaemonSet go.
func (l *lab) orphan() {
	l.t.Helper()
	const free = `[{"op":"remove","path":"/metadata/ownerReferences"}]`
	for _, p := range l.pods() {
		_, err := l.client.CoreV1().Pods(namespace).Patch(l.t.Context(), p.Name, types.JSONPatchType, []byte(free), metav1.PatchOptions{})
		l.do(err)
	}
	for _, r := range l.revisions() {
		_, err := l.client.AppsV1().ControllerRevisions(namespace).Patch(l.t.Context(), r.Name, types.JSONPatchType, []byte(free), metav1.PatchOptions{})
		l.do(err)
	}
	_, err := l.client.AppsV1().DaemonSets(namespace).Patch(l.t.Context(), "agent", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	l.do(err)
}

// owned reports whether so many pods, and every revision, have an owner.
func (l *lab) owned(pods int) bool {
	l.t.Helper()
	for _, p := range l.pods() {
		if metav1.GetControllerOf(&p) != nil {
			pods--
		}
	}
	for _, r := range l.revisions() {
		if metav1.GetControllerOf(&r) == nil {
			return false
		}
	}
	return pods == 0
}

// overQuota makes creates fail until the same event was written twice.
func (l *lab) overQuota() {
	l.t.Helper()
	quotas, ctx := l.client.CoreV1().ResourceQuotas(namespace), l.t.Context()
	none := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}
	q, err := quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: none}}, metav1.CreateOptions{})
	l.do(err)
	q.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	_, err = quotas.UpdateStatus(ctx, q, metav1.UpdateOptions{})
	l.do(err)
	l.until("admission knows of the quota", func() bool {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "trial"}, Spec: agent().Spec.Template.Spec}
		_, err := l.client.CoreV1().Pods(namespace).Create(ctx, &p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	})
	l.addNode("n4", nil)
	l.until("an event is counted", func() bool {
		list, err := l.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		l.do(err)
		return slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.Reason == "FailedCreate" && e.Count > 1 })
	})
	l.do(quotas.Delete(ctx, "none", metav1.DeleteOptions{}))
	l.until("the pod is there", func() bool { return l.everywhere("agent:3") })
}

// withoutFinalizers: without the right to finalizers, the engine cannot create
// anything with an owner.
func withoutFinalizers(t *testing.T, l *lab, full roles, c controller, g *guard) {
	short := roles{cluster: *full.cluster.DeepCopy(), lease: *full.lease.DeepCopy()}
	short.cluster.Rules = slices.DeleteFunc(short.cluster.Rules, func(r rbacv1.PolicyRule) bool {
		return slices.Equal(r.Resources, []string{"daemonsets/finalizers"})
	})
	if len(short.cluster.Rules) != len(full.cluster.Rules)-1 {
		t.Fatal("there is no rule for finalizers")
	}
	short.grant(t, l.client)
	defer full.grant(t, l.client)
	other := agent()
	other.Name = "denied"
	other.Spec.Selector.MatchLabels["app"], other.Spec.Template.Labels["app"] = "denied", "denied"
	r := l.start(c)
	defer r.stop()
	l.create(other)
	l.until("the admission plugin refuses", func() bool {
		return slices.ContainsFunc(g.denials(), func(d string) bool { return strings.Contains(d, "blockOwnerDeletion") })
	})
}

// TestServerRole: the engine inside `everynode server` has the same rights, except
// those for the probe: there it knows that it is alone.
func TestServerRole(t *testing.T) {
	deployed := readRoles(t, deployedRoles, "everynode-controller").rights()
	deployed.Delete(right{"create", "daemonsets.apps", ""}, right{"delete", "daemonsets.apps", "everynode-controller-probe"})
	server := readRoles(t, serverRoles, "system:everynode-controller").rights()
	if !deployed.Equal(server) {
		t.Errorf("%s grants what %s does not: %v; and lacks: %v", serverRoles, deployedRoles,
			server.Difference(deployed).UnsortedList(), deployed.Difference(server).UnsortedList())
	}
}
