package engine

import (
	"errors"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What keeps a pod from being changed may pass while the pod cannot be deleted either.
func TestUnfitForNow(t *testing.T) {
	debug := func(k *keepers, state corev1.ContainerState) {
		for _, p := range k.pods() {
			k.editPod(p.Name, func(p *corev1.Pod) {
				p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", State: state}}
			})
		}
	}
	inPlaceCluster(t, 3, func(k *keepers) {
		before := k.identities()
		k.intercept(func(r request) (error, bool) {
			if r.is("delete", "pods") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, r.name, errors.New("not now")), false
			}
			return nil, false
		})
		debug(k, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
		k.editSet(image("agent:2"))
		k.run(5 * time.Minute)
		if k.with("agent:2") != 0 {
			t.Fatalf("%d pods have the new image", k.with("agent:2"))
		}
		debug(k, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}})
		k.run(10 * time.Minute)
		k.covered(3, "agent:2")
		if !maps.Equal(before, k.identities()) {
			t.Errorf("the pods were %v and are %v", before, k.identities())
		}
	})
}

// Whether new pods are admitted is asked again when pods are to get a revision again, and after a while.
func TestAdmissionIsAskedAgain(t *testing.T) {
	refuse := func(k *keepers) {
		k.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") && r.query["dryRun"] != nil {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("unsigned image")), false
			}
			return nil, false
		})
	}
	t.Run("for a revision of before", func(t *testing.T) {
		inPlaceCluster(t, 3, func(k *keepers) {
			for _, name := range []string{"agent:2", "agent:1"} {
				k.editSet(image(name))
				k.run(time.Minute)
				k.covered(3, name)
			}
			patches := k.wrote("patch pods")
			refuse(k)
			k.editSet(image("agent:2"))
			k.run(2 * time.Minute)
			k.covered(3, "agent:2")
			if k.wrote("patch pods") != patches || k.wrote("delete pods") != 3 {
				t.Errorf("%d patches and %d deletes", k.wrote("patch pods")-patches, k.wrote("delete pods"))
			}
		})
	})
	t.Run("in the middle of a long update", func(t *testing.T) {
		inPlaceCluster(t, 3, func(k *keepers) {
			k.bad["agent:2"] = true
			k.editSet(image("agent:2"))
			k.run(time.Minute)
			refuse(k)
			k.run(10 * time.Minute)
			delete(k.bad, "agent:2")
			for _, p := range k.pods() {
				if p.Spec.Containers[0].Image == "agent:2" {
					k.editPod(p.Name, func(p *corev1.Pod) { k.readies(p, "agent:2") })
				}
			}
			k.run(2 * time.Minute)
			k.covered(3, "agent:2")
			if k.wrote("patch pods") != 1 || k.wrote("delete pods") != 2 {
				t.Errorf("%d patches and %d deletes", k.wrote("patch pods"), k.wrote("delete pods"))
			}
		})
	})
}

// A revision that cannot be read stops nothing: its pods are deleted meanwhile, and changed once it can be read again.
func TestRevisionThatCannotBeRead(t *testing.T) {
	inPlaceCluster(t, 6, func(k *keepers) {
		k.intercept(func(r request) (error, bool) {
			if r.is("get", "controllerrevisions") {
				return apierrors.NewInternalError(errors.New("the store is slow")), false
			}
			return nil, false
		})
		k.stop()
		k.editSet(image("agent:2"))
		k.start()
		k.run(5 * time.Second)
		if k.wrote("delete pods") == 0 || k.wrote("patch pods") != 0 {
			t.Fatalf("%d deletes and %d patches while it cannot be read", k.wrote("delete pods"), k.wrote("patch pods"))
		}
		k.intercept(nil)
		k.run(2 * time.Minute)
		k.covered(6, "agent:2")
		if k.wrote("patch pods") == 0 {
			t.Error("nothing was changed when it could be read again")
		}
	})
}
