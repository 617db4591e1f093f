package compat

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

const narrowSelector = "!pod-template-hash,!batch.kubernetes.io/job-name,!job-name"

// selectors are the label selectors of the requests that list or watch all pods, in order.
type selectors struct {
	mu    sync.Mutex
	lists []string
	watch []string
}

func (s *selectors) note(req *http.Request) {
	if req.Method != http.MethodGet || req.URL.Path != "/api/v1/pods" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := req.URL.Query()
	if q.Get("watch") != "" {
		s.watch = append(s.watch, q.Get("labelSelector"))
	} else {
		s.lists = append(s.lists, q.Get("labelSelector"))
	}
}

// last returns the selector of the last watch.
func (s *selectors) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watch) == 0 {
		return "none"
	}
	return s.watch[len(s.watch)-1]
}

func (s *selectors) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.lists, s.watch)
}

// tracking returns our engine, and the selectors that it uses.
func tracking() (controller, *selectors) {
	s := &selectors{}
	return controller{ours.name, func(ctx context.Context, t *testing.T, config *rest.Config) error {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				s.note(req)
				return next.RoundTrip(req)
			})
		})
		return runEngine(ctx, t, config)
	}}, s
}

// addForeign creates a pod as a ReplicaSet does.
func (l *lab) addForeign(name, node string) {
	l.t.Helper()
	p := podOf(name, node, map[string]string{"app": "web", "pod-template-hash": "5f6d"})
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5f6d", UID: "uid-web", Controller: new(true)}}
	_, err := l.client.CoreV1().Pods(namespace).Create(l.t.Context(), p, metav1.CreateOptions{})
	l.do(err)
}

func podOf(name, node string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "agent:0"}}}}
}

// label sets a label of a pod; the value null removes it.
func (l *lab) label(pod, key, value string) {
	l.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
	_, err := l.client.CoreV1().Pods(namespace).Patch(l.t.Context(), pod, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	l.do(err)
}

// agents returns the UIDs of the DaemonSet's pods by node, without those that are being deleted.
func (l *lab) agents() map[string]types.UID {
	l.t.Helper()
	ds, on := l.set(), map[string]types.UID{}
	for _, p := range l.pods() {
		if metav1.IsControlledBy(&p, ds) && p.DeletionTimestamp == nil {
			if on[target(&p)] != "" {
				l.t.Errorf("%s has two pods of the DaemonSet", target(&p))
			}
			on[target(&p)] = p.UID
		}
	}
	return on
}

func (l *lab) available() int32 {
	l.t.Helper()
	return l.set().Status.NumberAvailable
}

// On a real API server: the engine does not read pods of ReplicaSets. If a pod of the DaemonSet gets their label, it
// stays the DaemonSet's, and the engine sees what happens to it.
func TestForeignPodsStayAtTheServer(t *testing.T) {
	l := newLab(t)
	l.addNodes("n1", "n2", "n3")
	for i := range 20 {
		l.addForeign(fmt.Sprint("web-", i), "n1")
	}
	l.create(agent())
	engine, asked := tracking()
	l.start(engine)
	l.until("all nodes have the agent", func() bool { return l.available() == 3 })
	l.rest()
	if all := asked.all(); slices.Contains(all, "") || asked.last() != narrowSelector {
		t.Errorf("pods were asked for with %q", all)
	}
	before, odd := l.agents(), l.agentOn("n2")
	l.label(odd, "pod-template-hash", `"by-hand"`)
	l.until("all pods are watched", func() bool { return asked.last() == "" })
	l.rest()
	if after := l.agents(); fmt.Sprint(after) != fmt.Sprint(before) || l.available() != 3 {
		t.Errorf("a pod got a label; the pods were %v, and are %v; %d are available", before, after, l.available())
	}
	pod, err := l.client.CoreV1().Pods(namespace).Get(t.Context(), odd, metav1.GetOptions{})
	l.do(err)
	l.kubelet.change(func(k *kubelet) { k.dead["n2"] = true })
	l.do(setReady(t.Context(), l.client, pod, corev1.PodRunning, corev1.ConditionFalse))
	l.until("it is seen that the pod is not ready", func() bool { return l.available() == 2 })
	l.kubelet.change(func(k *kubelet) { k.dead["n2"] = false })
	l.edit(image("agent:2"))
	l.until("the update is through", func() bool {
		ds := l.set()
		return ds.Status.ObservedGeneration == ds.Generation && ds.Status.UpdatedNumberScheduled == 3 && ds.Status.NumberAvailable == 3
	})
	if n := len(l.agents()); n != 3 {
		t.Errorf("%d pods after the update", n)
	}
}

// agentOn returns the name of the DaemonSet's pod on the node.
func (l *lab) agentOn(node string) string {
	l.t.Helper()
	uid := l.agents()[node]
	for _, p := range l.pods() {
		if p.UID == uid {
			return p.Name
		}
	}
	l.t.Fatalf("%s has no pod of the DaemonSet", node)
	return ""
}

// On a real API server: a DaemonSet adopts orphans of a Deployment, although they still look like the Deployment's.
func TestOrphansOfADeploymentAreAdopted(t *testing.T) {
	l := newLab(t)
	l.addNodes("n1", "n2")
	left, err := l.client.CoreV1().Pods(namespace).Create(t.Context(),
		podOf("left", "n1", map[string]string{"app": "agent", "pod-template-hash": "5f6d"}), metav1.CreateOptions{})
	l.do(err)
	engine, asked := tracking()
	l.start(engine)
	l.until("pods are watched", func() bool { return asked.last() == narrowSelector })
	l.create(agent(func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	}))
	l.until("both nodes have a pod", func() bool { return l.available() == 2 })
	l.rest()
	if on := l.agents(); on["n1"] != left.UID || len(on) != 2 {
		t.Errorf("the pods are %v; the one that was left is %s", on, left.UID)
	}
}

// The engine relies on this: a pod that gets a label by which a watch no longer selects it leaves that watch as
// DELETED without a deletion timestamp. A pod that is deleted, in whatever way, has one.
func TestHowPodsLeaveAWatch(t *testing.T) {
	l := newLab(t)
	l.addNodes("n1")
	l.kubelet.change(func(k *kubelet) { k.stays["n1"] = true })
	pods := l.client.CoreV1().Pods(namespace)
	w, err := pods.Watch(t.Context(), metav1.ListOptions{LabelSelector: narrowSelector})
	l.do(err)
	defer w.Stop()
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	for how, leave := range map[string]func(name string) error{
		"a label": func(name string) error { l.label(name, "job-name", `"x"`); return nil },
		"at once": func(name string) error { return pods.Delete(t.Context(), name, now) },
		"as a collection": func(string) error {
			return pods.DeleteCollection(t.Context(), now, metav1.ListOptions{LabelSelector: "app=left"})
		},
		"first with, then without grace": func(name string) error {
			l.do(pods.Delete(t.Context(), name, metav1.DeleteOptions{}))
			return pods.Delete(t.Context(), name, now)
		},
	} {
		for _, node := range []string{"n1", ""} {
			if node == "" {
				l.kubelet.change(func(k *kubelet) { k.binds = false })
			}
			_, err := pods.Create(t.Context(), podOf("left", node, map[string]string{"app": "left"}), metav1.CreateOptions{})
			l.do(err)
			err = leave("left")
			if node == "" && how == "first with, then without grace" {
				err = nil // the first delete has removed it: no kubelet runs it
			}
			l.do(err)
			p := l.left(w)
			if _, labelled := p.Labels["job-name"]; (p.DeletionTimestamp == nil) != (how == "a label") || labelled {
				t.Errorf("%s, node %q: deleted at %v, labels %v", how, node, p.DeletionTimestamp, p.Labels)
			}
			if how == "a label" {
				l.do(pods.Delete(t.Context(), "left", now))
			}
		}
	}
}

// left returns the pod of the next DELETED event.
func (l *lab) left(w watch.Interface) *corev1.Pod {
	l.t.Helper()
	for event := range w.ResultChan() {
		if event.Type == watch.Deleted {
			return event.Object.(*corev1.Pod)
		}
	}
	l.t.Fatal("the watch has ended")
	return nil
}
