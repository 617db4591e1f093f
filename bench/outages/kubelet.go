package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/bench/testbed"
)

// kubelets stand in for the kubelets of all nodes, and for the node lifecycle controller. What a version does to its
// pod or node is its behaviour.
type kubelets struct {
	client kubernetes.Interface
	scale  float64
	fail   func(error)
	broke  func(node string, down bool)
	all    sync.WaitGroup

	unready atomic.Bool  // what all agents depend on is gone
	floods  atomic.Int64 // pods that flood the API server

	mu       sync.Mutex
	versions map[string]behaviour // by image; one that it does not have works well
	lives    map[types.UID]*life
	silent   map[string]bool // broken nodes that do not answer
}

// life is a simulated pod.
type life struct {
	pod      *corev1.Pod
	end      context.CancelFunc
	stopping bool
	boots    int // how often its node has booted since the pod was bound; each boot restarts its container

	mu      sync.Mutex // held while its status is written
	said    status
	started metav1.Time // when the kubelet first saw it
	ready   bool        // as written
	turned  metav1.Time // when that last changed
}

func newLife(pod *corev1.Pod, now metav1.Time) *life {
	return &life{pod: pod, end: func() {}, started: now, turned: now}
}

// boot makes the pod start again with its node.
func (l *life) boot() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boots++
	l.ready = false // the node lifecycle controller has written that
}

// scaled returns how long something takes on this fleet.
func (k *kubelets) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / k.scale) }

// pause waits for d, which is a time of a real fleet.
func (k *kubelets) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(k.scaled(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// is sets what versions do from now on.
func (k *kubelets) is(versions map[string]behaviour) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.versions = versions
}

// look handles a pod that is bound or has changed.
func (k *kubelets) look(ctx context.Context, pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lives[pod.UID]
	if l == nil {
		l = newLife(pod, metav1.Now())
		k.lives[pod.UID] = l
		if !k.silent[pod.Spec.NodeName] && pod.DeletionTimestamp == nil {
			k.begin(ctx, l)
		}
	}
	if pod.DeletionTimestamp == nil || l.stopping {
		return
	}
	l.stopping = true
	if !k.silent[pod.Spec.NodeName] {
		k.stop(ctx, l)
	}
}

// gone handles a pod that was deleted.
func (k *kubelets) gone(pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.lives[pod.UID]; l != nil {
		l.end()
		delete(k.lives, pod.UID)
	}
}

// work does something outside the watch. If it fails, the measurement fails.
func (k *kubelets) work(do func() error) {
	k.all.Go(func() {
		if err := do(); err != nil && !errors.Is(err, context.Canceled) && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			k.fail(err)
		}
	})
}

// begin starts a pod's life. Called with mu held.
func (k *kubelets) begin(ctx context.Context, l *life) {
	playing, end := context.WithCancel(ctx)
	l.end = end
	b := k.versions[l.pod.Spec.Containers[0].Image]
	boots := l.boots
	k.work(func() error {
		for s := range b.steps() {
			if err := k.pause(playing, s.After); err != nil {
				return nil // the pod ends, or its node does not answer
			}
			if s.BreaksNode {
				k.breakNode(ctx, l.pod.Spec.NodeName)
				return nil
			}
			s.Status.Restarts += boots
			if err := k.say(playing, l, s.Status); err != nil {
				return err
			}
		}
		if b.Floods {
			k.floods.Add(1)
			<-playing.Done()
			k.floods.Add(-1)
		}
		return nil
	})
}

// answersTake returns how long the API server's answers are delayed, except those to the kubelets.
func (k *kubelets) answersTake(nodes int) time.Duration {
	share := float64(k.floods.Load()) / (floodShare * float64(nodes))
	return time.Duration(min(share, 1) * float64(floodDelay))
}

// stop ends a pod as a kubelet does. Called with mu held.
func (k *kubelets) stop(ctx context.Context, l *life) {
	l.end()
	k.work(func() error {
		if err := k.pause(ctx, stopTime); err != nil {
			return err
		}
		return k.client.CoreV1().Pods(l.pod.Namespace).Delete(ctx, l.pod.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &l.pod.UID}})
	})
}

// say writes the status of a pod.
func (k *kubelets) say(ctx context.Context, l *life, s status) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = s
	s.Ready = s.Ready && !k.unready.Load()
	return k.write(ctx, l, s)
}

// write writes the status of a pod. Called with its mu held.
func (k *kubelets) write(ctx context.Context, l *life, s status) error {
	pod := l.pod
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": l.report(s, metav1.Now())})
	if err != nil {
		return fmt.Errorf("encode the status of pod %s: %w", pod.Name, err)
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "kubelet"}, "status")
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("write the status of pod %s: %w", pod.Name, err)
	}
	return nil
}

// allUnready removes or restores what all agents depend on to be ready.
func (k *kubelets) allUnready(ctx context.Context, unready bool) error {
	k.unready.Store(unready)
	k.mu.Lock()
	var all []*life
	for _, l := range k.lives {
		if !l.stopping {
			all = append(all, l)
		}
	}
	k.mu.Unlock()
	return testbed.Parallel(ctx, len(all), func(ctx context.Context, i int) error {
		l := all[i]
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.said.Ready {
			return nil // it will write its status once it is ready
		}
		s := l.said
		s.Ready = !unready
		if err := k.write(ctx, l, s); !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
		return nil // the pod is gone
	})
}

// report returns what a kubelet writes about a pod. Engines tell by its times whether the pod has ever been ready: the
// start stays, and a condition has the time of its last change. Called with mu held.
func (l *life) report(s status, now metav1.Time) corev1.PodStatus {
	if s.Ready != l.ready {
		l.ready, l.turned = s.Ready, now
	}
	pod, truth := l.pod, map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}
	out := corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &l.started, HostIP: "10.0.0.1", PodIP: "100.64.0.7"}
	if s.Waiting != "" && s.Ended == "" {
		out.Phase = corev1.PodPending
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
		out.Conditions = append(out.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: l.started})
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		out.Conditions = append(out.Conditions, corev1.PodCondition{Type: kind, Status: truth[s.Ready], LastTransitionTime: l.turned})
	}
	running := s.Waiting == ""
	c := pod.Spec.Containers[0]
	container := corev1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: "registry.example.com/observability/agent@sha256:" + testbed.Hash(c.Image, 1),
		Ready: s.Ready, Started: &running, RestartCount: int32(s.Restarts)}
	if running {
		container.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
	} else {
		container.State.Waiting = &corev1.ContainerStateWaiting{Reason: s.Waiting}
	}
	if s.Ended != "" {
		container.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: s.Ended, ExitCode: 1, StartedAt: now, FinishedAt: now}
	}
	out.ContainerStatuses = []corev1.ContainerStatus{container}
	return out
}
