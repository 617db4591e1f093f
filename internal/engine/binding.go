package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"everynode/internal/view"
)

// tellBinder reports, once, what is wrong with the annotation that says who binds.
func (e *engine) tellBinder(set *setEntry, st *state) {
	text := ""
	if set.binder != nil {
		text = set.binder.Error()
	}
	if text == st.binder {
		return
	}
	if st.binder = text; text != "" {
		e.events.event(set.ds, corev1.EventTypeWarning, "InvalidBindBy", "%s", text)
		e.log.Warn("a DaemonSet has an invalid value for who binds its pods", "daemonSet", keyOf(set.ds).String(), "err", text)
	}
}

// gated reports whether the API server refused a create because it names the node: admission has
// given the pod a scheduling gate, which only an unbound pod may have.
func gated(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == "spec.nodeName" })
}

// tellPorts reports, for a pod just created for the scheduler, which host ports of its node are
// taken, and by which pod if that is in the same namespace. The scheduler and the kubelet only
// say that some are taken. For a large DaemonSet this is looked up for only some of the pods;
// `everynode why` does it for any pod, and names all ports.
func (e *engine) tellPorts(ctx context.Context, w *write, made *corev1.Pod) {
	spec := &w.ds.Spec.Template.Spec
	if !w.create.ByScheduler || !view.AsksForPorts(spec) || !e.events.mayLookUp(w.ds.UID) {
		return
	}
	list, err := e.api.podsOn(ctx, w.create.Node)
	if err != nil {
		e.log.Info("could not read which pods have the host ports that a pod waits for", "daemonSet", w.key.String(), "node", w.create.Node, "err", err)
		return
	}
	// The DaemonSet's own pods are about to go.
	others := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return metav1.IsControlledBy(&p, w.ds) })
	taken := view.TakenPorts(spec, others)
	if len(taken) == 0 {
		return
	}
	var all []string
	for _, t := range taken {
		all = append(all, t.For(w.key.Namespace))
	}
	pod := &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: made.Namespace, Name: made.Name, UID: made.UID}
	e.events.to.Eventf(pod, corev1.EventTypeWarning, "HostPortTaken", "Waits on node %s for %s", w.create.Node, strings.Join(all, ", "))
	e.events.event(w.ds, corev1.EventTypeWarning, "HostPortTaken", "Pod %s waits on node %s for %s", made.Name, w.create.Node, strings.Join(all, ", "))
}

// podsOn returns the complete pods on a node, possibly from the server's cache.
func (a api) podsOn(ctx context.Context, node string) (list *corev1.PodList, err error) {
	err = a.read(ctx, kind{"list pods", ""}, func(ctx context.Context) (err error) {
		list, err = a.whole.Pods("").List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(), ResourceVersion: "0",
		})
		return err
	})
	return list, err
}
