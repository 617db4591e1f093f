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

// Two controllers that work on the same DaemonSets delete each other's pods. A
// controller that is active writes to the status of every DaemonSet that it has
// seen. So there is one, the probe, which is for no node and which we leave
// alone: whoever sets its observedGeneration is another controller.
//
// The probe stays as long as one of us works, and longer: the next leader need
// not wait for an answer that would have come long ago, and a controller that is
// switched on later shows itself, too. Who has asked is noted on the probe, the
// name of the lease or of the process, since an engine of ours that does not
// share our lease is another controller like any other, and is to answer.
const (
	probeName    = "everynode-controller-probe"
	askedBy      = "everynode.io/asked-by"
	noNode       = "everynode.io/no-node"
	probePurpose = "For no node, and never any pods. If observedGeneration is set here, a DaemonSet controller other than the one that asks is active. It may be deleted when everynode-controller is no longer in use."
)

// OtherController is the error of an engine that must not work, because another
// DaemonSet controller is active on the cluster.
type OtherController struct {
	// Name is what it calls itself, as a manager of fields.
	Name string
	// Probe is the namespace and name of the DaemonSet that it has answered.
	Probe string
}

func (o *OtherController) Error() string {
	return fmt.Sprintf("engine: another DaemonSet controller is active on this cluster: %s has taken notice of the DaemonSet %s, which is for no node. "+
		"Two controllers would delete each other's pods. Switch that one off first: append -daemonset-controller to the --controllers of "+
		"kube-controller-manager. To work beside it all the same, give --allow-other-controller", o.Name, o.Probe)
}

func (e *engine) probeKey() types.NamespacedName {
	return types.NamespacedName{Namespace: e.cfg.LeaseNamespace, Name: probeName}
}

// asker is the mark of the probes that this engine leaves alone.
func (c Config) asker() string {
	if c.LeaderElect {
		return c.LeaseNamespace + "/" + c.LeaseName
	}
	return c.Identity
}

// standAlone returns when no other controller has shown itself, with an error
// when one has. As long as it cannot be found out it tries again, until ctx
// ends.
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
			e.log.Warn("it cannot be found out whether another DaemonSet controller is active; nothing is done until it is known (--allow-other-controller: without knowing)",
				"probe", e.probeKey().String(), "error", err)
			e.cfg.Monitor.waitsFor("whether another DaemonSet controller is active", err)
		}
		sleep(ctx, pause)
	}
	return nil
}

// ask waits until the probe has been there for AloneAfter without an answer.
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
		e.log.Info("waiting whether another DaemonSet controller answers", "probe", e.probeKey().String(), "until", until.Format(time.TimeOnly))
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

// answered is the error about who has answered. The probe is deleted: whoever
// asks next is to hear of those that are active then.
func (e *engine) answered(ctx context.Context, probe *appsv1.DaemonSet) error {
	if err := e.deleteProbe(ctx, probe); err != nil {
		e.log.Warn("the probe that was answered could not be deleted; the next engine to start deletes it", "error", err)
	}
	other := &OtherController{Name: "one without a name", Probe: e.probeKey().String()}
	for _, m := range probe.ManagedFields {
		if m.Subresource == "status" && m.Manager != "" {
			other.Name = m.Manager
		}
	}
	return other
}

// age is how long the probe has been there. It was dated by the API server's
// clock, which may not be ours: by a clock that is ahead, nobody would be given
// the time to answer.
func (e *engine) age(probe *appsv1.DaemonSet) time.Duration {
	ahead, _ := e.cfg.Monitor.requests.clockSkew()
	return time.Since(probe.CreationTimestamp.Time) - ahead
}

// freshProbe is our probe, without an answer, and whether it was made just now.
// One that was answered says only that another controller was active once.
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
		// It is put back as fast as we take it away.
		return nil, false, &OtherController{Name: "everynode-controller as " + was.Annotations[askedBy], Probe: e.probeKey().String()}
	}
	return live, true, err
}

// asked says that the probe is ours.
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

// deleteProbe deletes that very probe, if it is still there.
func (e *engine) deleteProbe(ctx context.Context, probe *appsv1.DaemonSet) error {
	if err := e.api.deleteSet(ctx, probe); err != nil {
		return fmt.Errorf("deleting the probe: %w", err)
	}
	return nil
}

// watchProbe has the probe looked at once: it may have changed since it was read.
func (e *engine) watchProbe() {
	if e.cfg.Alone {
		e.queue.Add(e.probeKey())
	}
}

// guard looks at the probe whenever it changes. It returns false for any other
// DaemonSet, and for the probe of an engine that does not share our lease: that
// one asks whether we are here.
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
	e.log.Error("another DaemonSet controller was switched on; this one stops", "error", err)
	e.fail(err)
	return true, nil
}

// withdrawProbe deletes our probe when this engine has ended and nobody shares
// it. With leader election the next leader goes on with it.
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
		e.log.Warn("the probe could not be deleted; the next engine to start deletes it", "error", err)
	}
}

// newProbe is a DaemonSet that no node can have, and whose pod would run
// nothing, within the strictest pod security standard.
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
