package engine

import (
	"fmt"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// How the fake API server deletes: like registry/rest/delete.go and registry/generic/registry/store.go of
// k8s.io/apiserver, and the strategy of pods. Pods have a grace period; an object of any kind stays, marked
// as deleted, as long as it has a finalizer.

// remove carries out a delete request.
func (f *fakeAPI) remove(r request, old runtime.Object) (runtime.Object, error) {
	var opts metav1.DeleteOptions
	if len(r.body) > 0 {
		if o, ok := decode(r.body).(*metav1.DeleteOptions); ok {
			opts = *o
		}
	}
	m, _ := meta.Accessor(old)
	if p := opts.Preconditions; p != nil {
		if p.UID != nil && *p.UID != m.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != m.GetResourceVersion() {
			return nil, apierrors.NewConflict(schema.GroupResource{Resource: r.resource}, r.name, fmt.Errorf("precondition failed"))
		}
	}
	return f.removeObject(r.resource, old, opts), nil
}

// removeObject deletes an object, and returns it as that leaves it.
func (f *fakeAPI) removeObject(resource string, old runtime.Object, opts metav1.DeleteOptions) runtime.Object {
	obj := old.DeepCopyObject()
	m, _ := meta.Accessor(obj)
	graceful := false
	if pod, ok := obj.(*corev1.Pod); ok {
		var pending bool
		if graceful, pending = f.shorten(pod, opts.GracePeriodSeconds); pending {
			return old
		}
	}
	m.SetFinalizers(collectorFinalizers(m.GetFinalizers(), opts.PropagationPolicy))
	if !graceful && len(m.GetFinalizers()) > 0 {
		f.mark(m)
	}
	if graceful || len(m.GetFinalizers()) > 0 {
		f.store(resource, "MODIFIED", obj)
	}
	if len(m.GetFinalizers()) > 0 || graceful && *m.GetDeletionGracePeriodSeconds() > 0 {
		return obj
	}
	gone := obj.DeepCopyObject()
	f.store(resource, "DELETED", gone)
	return gone
}

// shorten gives the pod its grace period, or a shorter one than it has. pending means that there is nothing
// to shorten; if neither is true, the pod has no grace period left to wait for.
func (f *fakeAPI) shorten(pod *corev1.Pod, grace *int64) (graceful, pending bool) {
	if at := pod.DeletionTimestamp; at != nil {
		had := pod.DeletionGracePeriodSeconds
		switch {
		case had == nil || *had == 0:
			return false, false
		case grace == nil || *grace >= *had:
			return false, true
		}
		period := *grace
		end := metav1.NewTime(at.Add(time.Duration(period-*had) * time.Second))
		if now := f.now(); end.Before(&now) {
			end = now
			period = min(period, 1)
		}
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &period
		return true, false
	}
	period := *pod.Spec.TerminationGracePeriodSeconds
	if grace != nil {
		period = *grace
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		period = 0
	}
	end := metav1.NewTime(f.now().Add(time.Duration(period) * time.Second))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &period
	if pod.Generation > 0 {
		pod.Generation++
	}
	return true, false
}

// mark records that only finalizers keep the object.
func (f *fakeAPI) mark(m metav1.Object) {
	if m.GetDeletionTimestamp() == nil && m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	if now := f.now(); m.GetDeletionTimestamp() == nil || now.Before(m.GetDeletionTimestamp()) {
		m.SetDeletionTimestamp(&now)
	}
	m.SetDeletionGracePeriodSeconds(new(int64))
}

// collectorFinalizers returns the finalizers of an object that is deleted with that policy.
func collectorFinalizers(old []string, policy *metav1.DeletionPropagation) []string {
	with := slices.DeleteFunc(slices.Clone(old), func(s string) bool {
		return policy != nil && (s == metav1.FinalizerOrphanDependents || s == metav1.FinalizerDeleteDependents)
	})
	switch {
	case policy == nil:
	case *policy == metav1.DeletePropagationOrphan:
		with = append(with, metav1.FinalizerOrphanDependents)
	case *policy == metav1.DeletePropagationForeground:
		with = append(with, metav1.FinalizerDeleteDependents)
	}
	return with
}

// put stores a changed object. It removes one that was deleted and has lost its last finalizer.
func (f *fakeAPI) put(resource string, old, obj runtime.Object) runtime.Object {
	was, _ := meta.Accessor(old)
	m, _ := meta.Accessor(obj)
	grace := was.GetDeletionGracePeriodSeconds()
	if len(m.GetFinalizers()) == 0 && was.GetDeletionTimestamp() != nil && (grace == nil || *grace == 0) {
		f.store(resource, "DELETED", obj)
	} else {
		f.store(resource, "MODIFIED", obj)
	}
	return obj
}

// delete does what a user's delete does, with the policy; empty: the default.
func (f *fakeAPI) delete(resource, key string, policy metav1.DeletionPropagation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.objects[resource][key]; old != nil {
		opts := metav1.DeleteOptions{}
		if policy != "" {
			opts.PropagationPolicy = &policy
		}
		f.removeObject(resource, old, opts)
	}
}

// end is what a kubelet does when the containers of a deleted pod have ended: it reports that, cleans up for
// as long as c.lingers, and finishes.
func (c *cluster) end(pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.still(pod); p != nil && c.lingers > 0 {
		c.sayEnded(p)
	}
	time.AfterFunc(c.lingers, func() { c.finish(pod) })
}

// finish is the kubelet's last step: it deletes the pod without a grace period. Finalizers keep the pod even
// then.
func (c *cluster) finish(pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.still(pod)
	if p == nil {
		return
	}
	if len(p.Finalizers) > 0 {
		p = c.sayEnded(p)
	}
	c.removeObject("pods", p, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
}

// still returns the pod as the server has it; nil if it is gone.
func (c *cluster) still(pod *corev1.Pod) *corev1.Pod {
	p, ok := c.objects["pods"][path.Join(pod.Namespace, pod.Name)].(*corev1.Pod)
	if !ok || p.UID != pod.UID {
		return nil
	}
	return p
}

// sayEnded reports that the pod's containers have ended, once, and returns the pod.
func (c *cluster) sayEnded(p *corev1.Pod) *corev1.Pod {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return p
	}
	ended := p.DeepCopy()
	ready(ended, false)
	ended.Status.Phase = corev1.PodSucceeded
	c.store("pods", "MODIFIED", ended)
	return ended
}

// letGo removes the finalizers of a pod.
func (c *cluster) letGo(pod *corev1.Pod) {
	c.editPod(pod.Name, func(p *corev1.Pod) {
		if p.UID == pod.UID {
			p.Finalizers = nil
		}
	})
}
