package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Two controllers that work on the same DaemonSets delete each other's pods. An active controller
// writes to the status of every DaemonSet that it has seen. So the engine keeps one, the probe,
// which fits no node and which the engine itself ignores: if anything sets its
// observedGeneration, that is another controller.
//
// The probe stays as long as one of our engines works, and longer. So the next leader need not
// wait for an answer that would have come long ago, and a controller that is switched on later is
// noticed as well. The probe records who created it, by the name of the lease or of the process:
// one of our engines that does not share our lease is another controller like any other, and must
// answer.
const (
	probeName    = "everynode-controller-probe"
	askedBy      = "everynode.io/asked-by"
	noNode       = "everynode.io/no-node"
	probePurpose = "This DaemonSet fits no node and never has pods. If observedGeneration is set here, a DaemonSet controller other than the one that created it is active. You may delete it when everynode-controller is no longer in use."
)

// OtherController is the error of an engine that must not work because another DaemonSet
// controller is active on the cluster.
type OtherController struct {
	// Name is its name as a field manager.
	Name string
	// Probe is the namespace and name of the DaemonSet whose status it has written.
	Probe string
}

func (o *OtherController) Error() string {
	return fmt.Sprintf("engine: another DaemonSet controller is active on this cluster: %s has written the status of the DaemonSet %s, which fits no node. "+
		"Two controllers would delete each other's pods. Switch that one off first: append -daemonset-controller to the --controllers of "+
		"kube-controller-manager. To work beside it anyway, give --allow-other-controller", o.Name, o.Probe)
}

func (e *engine) probeKey() types.NamespacedName {
	return types.NamespacedName{Namespace: e.cfg.LeaseNamespace, Name: probeName}
}

// asker returns the mark of the probes that this engine ignores.
func (c Config) asker() string {
	if c.LeaderElect {
		return c.LeaseNamespace + "/" + c.LeaseName
	}
	return c.Identity
}

// standAlone returns nil when no other controller has responded, and an error when one has. While
// it cannot tell, it tries again, until ctx ends.
func (e *engine) standAlone(ctx context.Context) error {
	if !e.cfg.Alone {
		return nil
	}
	e.cfg.Monitor.waitsFor("an answer of another DaemonSet controller, if there is one", nil)
	for pause := range pauses(ctx) {
		err := e.ask(ctx)
		var other *OtherController
		if err == nil || errors.As(err, &other) {
			return err
		}
		if ctx.Err() == nil {
			e.log.Warn("cannot tell whether another DaemonSet controller is active; doing nothing until that is known (to skip the check: --allow-other-controller)",
				"probe", e.probeKey().String(), "err", err)
			e.cfg.Monitor.waitsFor("whether another DaemonSet controller is active", err)
		}
		sleep(ctx, pause)
	}
	return nil
}

// ask waits until the probe has existed for AloneAfter without an answer.
func (e *engine) ask(ctx context.Context) error {
	probe, made, err := e.freshProbe(ctx)
	if err != nil {
		return err
	}
	until := time.Now().Add(e.cfg.AloneAfter)
	if !made {
		until = until.Add(-max(0, e.age(probe)))
	}
	if time.Now().Before(until) {
		e.log.Info("waiting to see whether another DaemonSet controller responds", "probe", e.probeKey().String(), "until", until.Format(time.TimeOnly))
	}
	for pause := range pauses(ctx) {
		left := time.Until(until)
		if left > 0 && !sleep(ctx, min(pause, left)) {
			return ctx.Err()
		}
		live, err := e.readProbe(ctx)
		switch {
		case err != nil:
			return err
		case live.UID != probe.UID:
			return errors.New("the probe has been replaced")
		case live.Status.ObservedGeneration != 0:
			return e.answered(ctx, live)
		case left <= 0:
			return nil
		}
	}
	return ctx.Err()
}

// answered returns the error about who has answered. It deletes the probe, so that the next
// engine learns who is active then.
func (e *engine) answered(ctx context.Context, probe *appsv1.DaemonSet) error {
	if err := e.deleteProbe(ctx, probe); err != nil {
		e.log.Warn("could not delete the probe that was answered; the next engine to start will delete it", "err", err)
	}
	other := &OtherController{Name: "one without a name", Probe: e.probeKey().String()}
	for _, m := range probe.ManagedFields {
		if m.Subresource == "status" && m.Manager != "" {
			other.Name = m.Manager
		}
	}
	return other
}

// age returns how long the probe has existed. Its timestamp is by the API server's clock, which
// may differ from ours: if our clock is ahead, nobody would get the time to answer.
func (e *engine) age(probe *appsv1.DaemonSet) time.Duration {
	ahead, _ := e.cfg.Monitor.requests.clockSkew()
	return time.Since(probe.CreationTimestamp.Time) - ahead
}

// freshProbe returns our probe, without an answer, and whether it was just created. A probe with
// an answer only says that another controller was active at some time.
func (e *engine) freshProbe(ctx context.Context) (probe *appsv1.DaemonSet, made bool, err error) {
	live, err := e.readProbe(ctx)
	if err == nil && e.asked(live) && live.Status.ObservedGeneration == 0 {
		return live, false, nil
	}
	was := live
	if err == nil {
		err = e.deleteProbe(ctx, live)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, false, err
	}
	live, err = e.createProbe(ctx)
	if apierrors.IsAlreadyExists(err) && was != nil && !e.asked(was) {
		// Something recreates it as fast as we delete it.
		return nil, false, &OtherController{Name: "everynode-controller as " + was.Annotations[askedBy], Probe: e.probeKey().String()}
	}
	return live, true, err
}

// asked reports whether the probe is ours.
func (e *engine) asked(probe *appsv1.DaemonSet) bool {
	return probe.Annotations[askedBy] == e.cfg.asker()
}

func (e *engine) readProbe(ctx context.Context) (*appsv1.DaemonSet, error) {
	probe, err := e.api.getSet(ctx, e.cfg.LeaseNamespace, probeName)
	if err != nil {
		return nil, fmt.Errorf("reading the probe: %w", err)
	}
	return probe, nil
}

func (e *engine) createProbe(ctx context.Context) (*appsv1.DaemonSet, error) {
	probe, err := e.api.createSet(ctx, newProbe(e.cfg))
	if err != nil {
		return nil, fmt.Errorf("creating the probe: %w", err)
	}
	return probe, nil
}

// deleteProbe deletes exactly that probe, if it still exists.
func (e *engine) deleteProbe(ctx context.Context, probe *appsv1.DaemonSet) error {
	if err := e.api.deleteSet(ctx, probe); err != nil {
		return fmt.Errorf("deleting the probe: %w", err)
	}
	return nil
}

// watchProbe makes the engine look at the probe once: it may have changed since it was read.
func (e *engine) watchProbe() {
	if e.cfg.Alone {
		e.queue.Add(e.probeKey())
	}
}

// guard looks at the probe whenever it changes. It returns false for any other DaemonSet, and for
// the probe of an engine that does not share our lease, which must see our answer.
func (e *engine) guard(ctx context.Context, key types.NamespacedName, set *setEntry) (mine bool, err error) {
	switch {
	case !e.cfg.Alone || key != e.probeKey():
		return false, nil
	case set == nil:
		if _, err := e.createProbe(ctx); err != nil && !apierrors.IsAlreadyExists(err) {
			return true, err
		}
		return true, nil
	case !e.asked(set.ds):
		return false, nil
	case set.ds.Status.ObservedGeneration == 0:
		return true, nil
	}
	live, err := e.readProbe(ctx)
	if err != nil || live.UID != set.ds.UID || live.Status.ObservedGeneration == 0 {
		return true, err
	}
	err = e.answered(ctx, live)
	e.log.Error("another DaemonSet controller was switched on; stopping", "err", err)
	e.fail(err)
	return true, nil
}

// withdrawProbe deletes our probe when this engine has ended and nobody shares the probe. With
// leader election the next leader uses it.
func (e *engine) withdrawProbe(ctx context.Context) {
	if !e.cfg.Alone || e.cfg.LeaderElect {
		return
	}
	ctx = context.WithoutCancel(ctx)
	probe, err := e.readProbe(ctx)
	if err == nil && e.asked(probe) {
		err = e.deleteProbe(ctx, probe)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		e.log.Warn("could not delete the probe; the next engine to start will delete it", "err", err)
	}
}

// newProbe returns a DaemonSet that fits no node, and whose pod would run nothing, within the
// strictest Pod Security Standard.
func newProbe(cfg Config) *appsv1.DaemonSet {
	labels := map[string]string{"app.kubernetes.io/name": "everynode-controller", "app.kubernetes.io/component": "probe"}
	none := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: noNode, Operator: corev1.NodeSelectorOpExists}, {Key: noNode, Operator: corev1.NodeSelectorOpDoesNotExist},
	}}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: cfg.LeaseNamespace, Name: probeName, Labels: labels,
			Annotations: map[string]string{askedBy: cfg.asker(), "kubernetes.io/description": probePurpose}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeSelector: map[string]string{noNode: "true"},
					Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{none}},
					}},
					AutomountServiceAccountToken: ptr.To(false),
					SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
					Containers: []corev1.Container{{Name: "none", Image: "registry.invalid/none:none",
						SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false),
							Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
					}},
				},
			},
		},
	}
}
