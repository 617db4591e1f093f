package engine

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/view"
)

// A new image comes to the pods in place, one after the other, and none is counted before its new container serves.
func TestUpdateInPlace(t *testing.T) {
	for name, how := range map[string]func(*keepers){
		"with a readiness probe": func(*keepers) {},
		"without a probe":        func(k *keepers) { k.probed = false },
		"with a startup probe":   func(k *keepers) { k.lies = true },
	} {
		t.Run(name, func(t *testing.T) {
			inPlaceCluster(t, 5, func(k *keepers) {
				how(k)
				k.watchTruth(5, 1)
				before := k.identities()
				k.editSet(image("agent:2"))
				k.run(2 * time.Minute)
				k.covered(5, "agent:2")
				if after := k.identities(); !maps.Equal(before, after) || k.wrote("delete pods") != 0 {
					t.Errorf("the pods were %v and are %v, with %d deletes", before, after, k.wrote("delete pods"))
				}
				if got := k.wrote("patch pods"); got != 5 {
					t.Errorf("%d patches of 5 pods", got)
				}
				writes := k.countWrites()
				k.run(time.Hour)
				if n := k.countWrites() - writes; n != 0 {
					t.Errorf("%d writes while nothing happens", n)
				}
			})
		})
	}
}

// What only deletion can do is done by deletion: the DaemonSet does not ask for it, more than images differs, or the pod
// does not match its revision.
func TestUpdateNotInPlace(t *testing.T) {
	for name, how := range map[string]func(*keepers){
		"not asked for": func(k *keepers) {
			k.editSet(func(ds *appsv1.DaemonSet) { delete(ds.Annotations, view.UpdateAnnotation) })
		},
		"asked for in words that mean nothing": func(k *keepers) {
			k.editSet(func(ds *appsv1.DaemonSet) { ds.Annotations[view.UpdateAnnotation] = "Always" })
		},
		"surge": func(k *keepers) {
			k.editSet(func(ds *appsv1.DaemonSet) {
				u := ds.Spec.UpdateStrategy.RollingUpdate
				u.MaxSurge, u.MaxUnavailable = u.MaxUnavailable, nil
			})
		},
		"the environment differs": func(k *keepers) {
			k.editSet(func(ds *appsv1.DaemonSet) {
				ds.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
			})
		},
		"admission refuses new pods": func(k *keepers) {
			k.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && r.query["dryRun"] != nil {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("unsigned image")), false
				}
				return nil, false
			})
		},
		"admission would rewrite new pods": func(k *keepers) {
			k.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && r.query["dryRun"] != nil {
					k.mutate = func(p *corev1.Pod) { p.Spec.Containers[0].Image = "mirror/" + p.Spec.Containers[0].Image }
				} else {
					k.mutate = nil
				}
				return nil, false
			})
		},
		"new pods get a pull secret": func(k *keepers) {
			k.mutate = func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}} }
		},
		"what admission says of new pods is not known": func(k *keepers) {
			k.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && r.query["dryRun"] != nil {
					return apierrors.NewInternalError(errors.New("no webhook answers")), false
				}
				return nil, false
			})
		},
		"admission has rewritten the images": func(k *keepers) {
			for _, p := range k.pods() {
				k.editPod(p.Name, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "mirror/agent:1" })
			}
		},
		"somebody debugs": func(k *keepers) {
			for _, p := range k.pods() {
				k.editPod(p.Name, func(p *corev1.Pod) {
					p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inPlaceCluster(t, 3, func(k *keepers) {
				how(k)
				k.editSet(image("agent:2"))
				k.run(2 * time.Minute)
				k.covered(3, "agent:2")
				if k.wrote("patch pods") != 0 || k.wrote("delete pods") != 3 {
					t.Errorf("%d patches and %d deletes of 3 pods", k.wrote("patch pods"), k.wrote("delete pods"))
				}
			})
		})
	}
}

// A bad image stops on as many nodes as may be down. When it is undone, the pods that have it get the old one back in
// place.
func TestUndoInPlace(t *testing.T) {
	inPlaceCluster(t, 6, func(k *keepers) {
		k.bad["agent:bad"] = true
		k.watchTruth(6, 1)
		before := k.identities()
		k.editSet(image("agent:bad"))
		k.run(10 * time.Minute)
		if n := k.with("agent:bad"); n != 1 {
			t.Fatalf("%d pods have the bad image", n)
		}
		k.editSet(image("agent:1"))
		k.run(time.Minute)
		k.covered(6, "agent:1")
		if after := k.identities(); !maps.Equal(before, after) || k.wrote("patch pods") != 2 {
			t.Errorf("the pods were %v and are %v, after %d patches", before, after, k.wrote("patch pods"))
		}
	})
}

// With lost answers, versions that are skipped, and an engine that is restarted in the middle, the budget holds, and in
// the end everything is done.
func TestUpdateInPlaceWithFaults(t *testing.T) {
	for name, how := range map[string]func(*keepers){
		"answers are lost": func(k *keepers) {
			n := 0
			k.intercept(func(r request) (error, bool) {
				if r.is("patch", "pods") {
					n++
				}
				return nil, r.is("patch", "pods") && n%2 == 1
			})
		},
		"requests are lost": func(k *keepers) {
			n := 0
			k.intercept(func(r request) (error, bool) {
				if r.is("patch", "pods") {
					if n++; n%3 != 0 {
						return errors.New("no route"), false
					}
				}
				return nil, false
			})
		},
		"the server is slow": func(k *keepers) {
			k.slowDown(func(r request) time.Duration {
				if r.is("patch", "pods") {
					return 3 * time.Second
				}
				return 0
			})
		},
		"others write to the pods": func(k *keepers) {
			n := 0
			k.intercept(func(r request) (error, bool) {
				if r.is("patch", "pods") {
					if n++; n%4 != 0 {
						k.editPod(r.name, func(p *corev1.Pod) { p.Annotations = map[string]string{"seen": time.Now().String()} })
					}
				}
				return nil, false
			})
		},
		"the engine is started again": func(k *keepers) {
			time.AfterFunc(3500*time.Millisecond, func() {
				k.stop()
				k.start()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inPlaceCluster(t, 5, func(k *keepers) {
				k.watchTruth(5, 1)
				before := k.identities()
				how(k)
				k.editSet(image("agent:2"))
				k.run(10 * time.Minute)
				k.intercept(nil)
				k.run(10 * time.Minute)
				k.covered(5, "agent:2")
				if after := k.identities(); !maps.Equal(before, after) {
					t.Errorf("the pods were %v and are %v", before, after)
				}
			})
		})
	}
}

// If a change is refused the pod stays as it is: a pod that may not have the new image is better off with the old one.
func TestChangeRefused(t *testing.T) {
	inPlaceCluster(t, 3, func(k *keepers) {
		k.intercept(func(r request) (error, bool) {
			if r.is("patch", "pods") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, r.name, errors.New("unsigned image")), false
			}
			return nil, false
		})
		k.editSet(image("agent:2"))
		k.run(10 * time.Minute)
		if k.with("agent:1") != 3 || len(k.serves) != 3 {
			t.Errorf("%d pods of 3 are left, %d serve", k.with("agent:1"), len(k.serves))
		}
		if got := k.events("FailedChange"); len(got) == 0 || !strings.Contains(got[0], "unsigned image") || !strings.Contains(got[0], "Error changing: node node-") {
			t.Errorf("the events are %q", got)
		}
		k.intercept(nil)
		k.run(10 * time.Minute)
		k.covered(3, "agent:2")
	})
}

// In a release the pods of a wave get the new image in place, and the old one again when it is aborted.
func TestReleaseInPlace(t *testing.T) {
	inCluster(t, func(c *cluster) {
		k := &keepers{cluster: c, serves: map[string]string{}, bad: map[string]bool{"agent:bad": true}, lacks: map[string]bool{}, works: map[string]bool{}, probed: true}
		c.after = k.kubelet
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(20)
		c.addSet(follows, asksInPlace)
		c.start()
		c.run(time.Minute)
		k.watchTruth(20, 1)
		before := k.identities()
		c.editSet(image("agent:bad"))
		c.run(14 * time.Minute)
		c.wantRelease("with a bad image", "Halted TooManyFailed first 1", map[string]int{"agent:bad": 1, "agent:1": 19})
		if f := c.rollout().Status.Failures; len(f) != 1 || f[0].Reason != "NotStarted" {
			t.Errorf("the failures are %+v", f)
		}
		c.ask(`{"abort": 1}`)
		c.run(time.Minute)
		c.wantRelease("after the abort", "Aborted AbortRequested first 0", map[string]int{"agent:bad": 0, "agent:1": 20})
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.covered(20, "agent:2")
		if after := k.identities(); !maps.Equal(before, after) || k.wrote("delete pods") != 0 {
			t.Errorf("the pods were %v and are %v", before, after)
		}
	})
}

// A new image may work while the unchanged container beside it fails because of it: the release stops.
func TestReleaseInPlaceBreaksAnotherContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		k := &keepers{cluster: c, serves: map[string]string{}, bad: map[string]bool{}, lacks: map[string]bool{}, works: map[string]bool{}, breaks: map[string]int32{"agent:2": 7}, probed: true}
		c.after = k.kubelet
		c.installKinds()
		c.addKind(view.PolicyResource, policy("{}"))
		c.addNodes(20)
		c.addSet(follows, asksInPlace, func(ds *appsv1.DaemonSet) {
			ds.Spec.Template.Spec.Containers = append(ds.Spec.Template.Spec.Containers, corev1.Container{Name: "beside", Image: "beside:1"})
		})
		c.start()
		c.run(time.Minute)
		c.editSet(image("agent:2"))
		c.run(14 * time.Minute)
		c.wantRelease("while it breaks another", "Halted TooManyFailed first 1", map[string]int{"agent:2": 1, "agent:1": 19})
		if f := c.rollout().Status.Failures; len(f) != 1 || f[0].Reason != "Restarting" {
			t.Errorf("the failures are %+v", f)
		}
	})
}

// A long list of annotations does not separate a DaemonSet from its policy, or from how it is to be updated.
func TestLargeAnnotationsKeepWhatTheEngineReads(t *testing.T) {
	ds := &appsv1.DaemonSet{}
	padded(ds)
	asksInPlaceOnly := map[string]string{view.UpdateAnnotation: view.InPlaceIfPossible, view.PolicyAnnotation: strings.Repeat("p", 253), view.BindByAnnotation: "engine"}
	maps.Copy(ds.Annotations, asksInPlaceOnly)
	if !trimAnnotations(ds) || !maps.Equal(ds.Annotations, asksInPlaceOnly) {
		t.Errorf("what is kept is %v", ds.Annotations)
	}
}

// A pod that cannot be changed is remembered through all of its versions.
func TestUnfitPodsStayUnfit(t *testing.T) {
	ix := newIndex()
	pod := &podEntry{version: 1, owner: "set"}
	pod.UID, pod.Node = "u", "n"
	ix.upsertPod(pod)
	ix.unfit("u", true)
	next := *pod
	next.version, next.next, next.unfit, next.Unchangeable = 2, nil, false, false
	ix.upsertPod(&next)
	if p := ix.pod("u"); p.version != 2 || !p.Unchangeable {
		t.Errorf("the pod is %+v", p)
	}
	ix.unfit("gone", true)
}

// Whether a new pod would be admitted is asked once for each revision. Where a quota has no room for it, nobody sees what
// admission would make of it, so the pods are deleted.
func TestAdmissionIsAskedOnce(t *testing.T) {
	for full, changed := range map[error]int{nil: 5, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("exceeded quota: pods")): 0} {
		inPlaceCluster(t, 5, func(k *keepers) {
			asked := 0
			k.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && r.query["dryRun"] != nil {
					asked++
					return full, false
				}
				return nil, false
			})
			k.editSet(image("agent:2"))
			k.run(2 * time.Minute)
			k.covered(5, "agent:2")
			if asked != 1 || k.wrote("patch pods") != changed {
				t.Errorf("%v: it was asked %d times, and %d pods were changed", full, asked, k.wrote("patch pods"))
			}
		})
	}
}
