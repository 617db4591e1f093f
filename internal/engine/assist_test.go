package engine

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// Two waves, for the DaemonSets of a namespace: in these tests the other controller must not see that a DaemonSet follows a policy.
const twoWaves = `{"daemonSets": {"namespaces": ["default"]}, "waves": [{"name": "first", "nodes": 1, "approval": true}, {"name": "all", "nodes": "100%"}]}`

// builtIn returns the DaemonSet controller of the cluster: an engine that is in charge, and for which the server does not have
// our kinds. With OnDelete it does what Kubernetes' controller does: it creates, repairs and removes pods, keeps the revisions,
// and writes the status.
func (c *cluster) builtIn() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	config := &rest.Config{Host: "http://fake", Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		if strings.Contains(req.URL.Path, view.PolicyVersion) {
			return respondError(apierrors.NewNotFound(schema.GroupResource{}, ""))
		}
		return c.RoundTrip(req)
	})}
	go func() {
		defer close(ended)
		if err := Run(ctx, Config{Client: config, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}); err != nil {
			c.t.Errorf("the other controller: %v", err)
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-ended })
}

func assists(cfg *Config) { cfg.Assist = true }

// beside is the surroundings of an engine that assists: stop ends the other controller, and deletes counts the pods that the
// engine has deleted.
type beside struct {
	stop    func()
	deletes atomic.Int64
}

// assists configures an engine whose deletes are counted.
func (b *beside) assists(cfg *Config) {
	cfg.Assist = true
	cfg.Client.Transport = counting(cfg.Client.Transport, &b.deletes)
}

func counting(next http.RoundTripper, deletes *atomic.Int64) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil && req.Method == http.MethodDelete && strings.Contains(req.URL.Path, "/pods/") && resp.StatusCode == http.StatusOK {
			deletes.Add(1)
		}
		return resp, err
	})
}

func (b *beside) wantDeletes(c *cluster, when string, n int64) {
	c.t.Helper()
	if got := b.deletes.Load(); got != n {
		c.t.Errorf("%s the engine has deleted %d pods, want %d", when, got, n)
	}
}

func onDelete(ds *appsv1.DaemonSet) {
	ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
}

// assisted runs a test on a cluster whose own controller manages the pods of a DaemonSet, with an engine that lets its releases
// go in waves.
func assisted(t *testing.T, nodes int, spec string, test func(c *cluster, b *beside)) {
	t.Helper()
	inCluster(t, func(c *cluster) {
		c.installKinds()
		c.addKind(view.PolicyResource, policy(spec))
		c.addNodes(nodes)
		c.addSet(onDelete)
		b := &beside{stop: c.builtIn()}
		defer func() { b.stop() }()
		c.start(b.assists)
		c.run(time.Minute)
		c.covered(nodes, "agent:1")
		c.wantRelease("at first", "Idle   0", nil)
		test(c, b)
	})
}

// inOrder returns the nodes in the order in which a release reaches them while all are well.
func (c *cluster) inOrder() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var nodes []rollout.Node
	for _, o := range c.objects["nodes"] {
		nodes = append(nodes, rollout.Node{Name: o.(*corev1.Node).Name})
	}
	p := rollout.Default()
	return rollout.NewLayout(&p, string(c.objects["daemonsets"]["default/agent"].(*appsv1.DaemonSet).UID), nodes).Order
}

// A release beside another controller goes in waves, only by deletes.
func TestAssistGoesInWaves(t *testing.T) {
	assisted(t, 4, twoWaves, func(c *cluster, b *beside) {
		c.watchBudget(4, 1)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.wantRelease("before it is approved", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:1": 3})
		if got := c.podOn(c.inOrder()[0]).Spec.Containers[0].Image; got != "agent:2" {
			t.Errorf("the first node in the order has %s", got)
		}
		c.ask(`{"promote": {"release": 1, "wave": "first"}}`)
		c.run(time.Minute)
		c.covered(4, "agent:2")
		c.wantRelease("in the end", "Idle   0", nil)
		b.wantDeletes(c, "in the end", 4)
		before := c.countWrites()
		c.run(time.Hour)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes while nothing happens", n)
		}
	})
}

// People who make a DaemonSet follow a policy while the other controller does not run must be told: for a DaemonSet that has
// never had a pod, and for one whose template has changed since. Once that controller is back everything goes on by itself.
func TestAssistTellsThatNobodyTakesNotice(t *testing.T) {
	told := func(c *cluster, when string) {
		c.t.Helper()
		c.run(8 * time.Second)
		if got := c.stands(); got != "   0" {
			c.t.Errorf("%s it is said at once: %s", when, got)
		}
		c.run(4 * time.Second)
		c.wantRelease(when, "Held NotObserved  0", nil)
		if s := c.rollout().Status; !s.Assists || s.Nodes.Eligible != 3 || !strings.Contains(s.Message, "is kube-controller-manager running?") {
			c.t.Errorf("%s the status is %+v", when, s)
		}
		if got := c.events("ReleaseHeld"); len(got) != 1 || !strings.HasPrefix(got[0], "Warning ReleaseHeld: the DaemonSet controller of the cluster has not observed") {
			c.t.Errorf("%s the events are %q", when, got)
		}
		before := c.countWrites()
		c.stop()
		c.start(assists)
		c.run(time.Hour)
		if n := c.countWrites() - before; n != 0 {
			c.t.Errorf("%s there are %d writes while nothing happens", when, n)
		}
	}
	t.Run("of a new DaemonSet", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.installKinds()
			c.addKind(view.PolicyResource, policy(twoWaves))
			c.addNodes(3)
			c.start(assists)
			c.run(time.Minute)
			c.addSet(onDelete)
			told(c, "without a pod")
			c.delete(view.RolloutResource, "default/agent", "")
			c.run(time.Second)
			c.wantRelease("when somebody has deleted that", "Held NotObserved  0", nil)
			defer c.builtIn()()
			c.run(time.Minute)
			c.covered(3, "agent:1")
			c.wantRelease("once it runs", "Idle   0", nil)
		})
	})
	t.Run("of a change", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.installKinds()
			c.addNodes(3)
			c.addSet(onDelete)
			stop := c.builtIn()
			c.start(assists)
			c.run(time.Minute)
			c.covered(3, "agent:1")
			stop()
			c.editSet(image("agent:2"))
			c.run(time.Minute)
			if got := c.stands(); got != "   0" {
				t.Errorf("without a policy it is said: %s", got)
			}
			c.addKind(view.PolicyResource, policy(twoWaves))
			told(c, "with a policy")
			defer c.builtIn()()
			c.run(time.Minute)
			c.wantRelease("once it runs", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:1": 2})
		})
	})
	t.Run("no more without a policy", func(t *testing.T) {
		inCluster(t, func(c *cluster) {
			c.installKinds()
			c.addKind(view.PolicyResource, policy(twoWaves))
			c.addNodes(3)
			c.addSet(onDelete)
			c.start(assists)
			c.run(time.Minute)
			c.wantRelease("with it", "Held NotObserved  0", nil)
			c.delete(view.PolicyResource, "waves", "")
			c.run(time.Minute)
			c.wantRelease("without it", "Idle   0", nil)
			if got := c.rollout().Status.Message; got != "the DaemonSet follows no policy" {
				t.Errorf("it says %q", got)
			}
		})
	})
}

// A pod of an abandoned version that breaks after the order was computed uses up the whole budget. It then goes first, because
// otherwise nothing could.
func TestAssistMendsFirst(t *testing.T) {
	assisted(t, 4, twoWaves, func(c *cluster, _ *beside) {
		order := c.inOrder()
		last := order[len(order)-1]
		c.ask(`{"paused": true}`)
		c.editSet(image("agent:bad"))
		c.run(time.Minute)
		c.delete("pods", "default/"+c.podOn(last).Name, "") // its successor is out of turn
		c.run(time.Minute)
		c.wantRelease("with a leak", "Paused PauseRequested  1", map[string]int{"agent:bad": 1, "agent:1": 3})
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.wantRelease("when the order is worked out", "Paused PauseRequested  0", map[string]int{"agent:bad": 1, "agent:1": 3})
		c.editPod(c.podOn(last).Name, func(p *corev1.Pod) { ready(p, false) })
		c.run(time.Minute)
		c.ask(`{}`)
		c.run(time.Minute)
		c.wantRelease("after the pause", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:bad": 0, "agent:1": 3})
		if !slices.ContainsFunc(c.pods(), func(p *corev1.Pod) bool { return p.Spec.NodeName == last && p.Spec.Containers[0].Image == "agent:2" }) {
			t.Errorf("%s, whose pod is down, has not got the fix first", last)
		}
	})
}

// A node that neither version is for gets a pod of the target after the order was computed, because the other controller has seen
// its taint late. The node counts against the quota, so it gets a place in the order, and the last node gets its turn.
func TestAssistCountsWhatIsOutsideTheOrder(t *testing.T) {
	assisted(t, 4, twoWaves, func(c *cluster, _ *beside) {
		order := c.inOrder()
		last := order[len(order)-1]
		c.editNode(last, func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}} })
		c.delete("pods", "default/"+c.podOn(last).Name, "")
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.wantRelease("before it is approved", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:1": 2})
		late := c.podOn(order[0]).DeepCopy()
		late.Name, late.UID, late.Spec.NodeName = "late", "late", last
		c.mu.Lock()
		c.add("pods", late)
		c.mu.Unlock()
		c.run(time.Minute)
		c.ask(`{"promote": {"release": 1, "wave": "first"}}`)
		c.run(5 * time.Minute)
		c.wantRelease("in the end", "Idle   0", map[string]int{"agent:2": 4})
	})
}

// Nothing goes before the other controller has observed the template, because the next pod would be of the old one. What the
// release waits for is reported, and it continues by itself.
func TestAssistWaitsForNotice(t *testing.T) {
	assisted(t, 3, twoWaves, func(c *cluster, b *beside) {
		b.stop()
		c.editSet(image("agent:2"))
		c.run(8 * time.Second)
		c.wantRelease("at once", "Idle   0", nil)
		c.run(time.Hour)
		c.wantRelease("without the other controller", "Held NotObserved  0", map[string]int{"agent:1": 3})
		b.wantDeletes(c, "without the other controller", 0)
		c.stop()
		c.start(b.assists)
		c.run(time.Hour)
		b.wantDeletes(c, "under the next leader", 0)
		if s := c.rollout().Status; s.Stable == "" || s.Stable != s.Target {
			t.Errorf("what was good before is not kept: %+v", s)
		}
		b.stop = c.builtIn()
		c.run(time.Minute)
		c.wantRelease("once it runs", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:1": 2})
	})
}

// The watches may show the revision of a template later than the status that says that it exists: watches do not wait for each
// other. The release continues when the revision is seen.
func TestAssistHearsOfTheRevisionLast(t *testing.T) {
	assisted(t, 3, twoWaves, func(c *cluster, _ *beside) {
		c.stall("controllerrevisions", true)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.wantRelease("without the revision", "Held NotObserved  0", map[string]int{"agent:1": 3})
		c.stall("controllerrevisions", false)
		c.run(time.Minute)
		c.wantRelease("with it", "Waiting NotApproved first 1", map[string]int{"agent:2": 1, "agent:1": 2})
	})
}

// Nodes that get the new version out of turn from others are counted and shown. An abort takes nothing back; a revert does,
// without waves.
func TestAssistCountsWhatIsOutOfTurn(t *testing.T) {
	assisted(t, 4, twoWaves, func(c *cluster, b *beside) {
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.addNode("node-05")
		c.run(time.Minute)
		c.wantRelease("with another node", "Waiting NotApproved first 2", map[string]int{"agent:2": 2, "agent:1": 3})
		if s := c.rollout().Status; s.Nodes.Leaked != 1 || !strings.Contains(s.Message, "1 of the nodes with "+s.Target+" have it out of turn") {
			t.Errorf("nobody is told: %+v", s)
		}
		c.ask(`{"abort": 1}`)
		c.run(time.Hour)
		c.wantRelease("after the abort", "Aborted AbortRequested first 2", map[string]int{"agent:2": 2, "agent:1": 3})
		b.wantDeletes(c, "after the abort", 1)
		c.editSet(image("agent:1"))
		c.run(5 * time.Minute)
		c.covered(5, "agent:1")
		c.wantRelease("after the revert", "Idle   0", nil)
		b.wantDeletes(c, "after the revert", 3)
	})
}

// The policy is deleted in the middle of a release: nothing more goes, whoever leads, and the release continues when the policy
// is back.
func TestAssistWithoutItsPolicy(t *testing.T) {
	assisted(t, 4, twoWaves, func(c *cluster, b *beside) {
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.delete(view.PolicyResource, "waves", "")
		c.run(time.Minute)
		c.wantRelease("without it", "Held PolicyGone first 1", nil)
		c.stop()
		c.start(b.assists)
		c.run(time.Hour)
		c.wantRelease("under the next leader", "Held PolicyGone first 1", map[string]int{"agent:2": 1, "agent:1": 3})
		b.wantDeletes(c, "without it", 1)
		c.addKind(view.PolicyResource, policy(twoWaves))
		c.run(time.Minute)
		c.wantRelease("with it", "Waiting NotApproved first 1", nil)
	})
}

// With RollingUpdate the other controller replaces outdated pods, in a release, in a revert, and at rest; this engine does not,
// and says what to type. A version that is everywhere then counts as good.
func TestAssistLeavesRollingUpdateAlone(t *testing.T) {
	rollingUpdate := func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType }
	assisted(t, 4, twoWaves, func(c *cluster, b *beside) {
		c.editSet(rollingUpdate)
		c.run(time.Minute)
		c.wantRelease("with RollingUpdate", "Held NotDriven  0", nil)
		if m := c.rollout().Status.Message; !strings.Contains(m, "kubectl -n default patch daemonset agent -p ") {
			t.Errorf("nobody is told what to do: %s", m)
		}
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.covered(4, "agent:2")
		b.wantDeletes(c, "when it is rolled out", 0)
		c.editSet(onDelete)
		c.run(time.Minute)
		c.wantRelease("with OnDelete again", "Idle   0", nil)
		if s := c.rollout().Status; s.Release != 1 || s.Stable != s.Target {
			t.Errorf("what is everywhere does not count as good: %+v", s)
		}

		c.editSet(image("agent:3"))
		c.run(time.Minute)
		c.wantRelease("in a release", "Waiting NotApproved first 1", map[string]int{"agent:3": 1, "agent:2": 3})
		c.delete(view.PolicyResource, "waves", "")
		c.run(time.Minute)
		c.editSet(rollingUpdate)
		c.run(10 * time.Millisecond) // both have seen it, and the other controller has begun
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.covered(4, "agent:2")
		b.wantDeletes(c, "in a revert without a policy", 1)
	})
}

// A maxUnavailable that lets no pod go holds a release, and the engine reports what to change.
func TestAssistWithoutAnythingThatMayBeDown(t *testing.T) {
	assisted(t, 3, twoWaves, func(c *cluster, b *beside) {
		c.editSet(unavailable(0))
		c.editSet(image("agent:2"))
		c.run(time.Hour)
		c.wantRelease("with none", "Held NotDriven  0", map[string]int{"agent:1": 3})
		if m := c.rollout().Status.Message; !strings.Contains(m, "maxUnavailable is 0") {
			t.Errorf("it says %q", m)
		}
		c.editSet(unavailable(1))
		c.run(time.Minute)
		c.wantRelease("with one", "Waiting NotApproved first 1", nil)
	})
}

// A version whose pods end, and are created again and again by the other controller, has failed long before its time to start is
// over.
func TestAssistStopsAtPodsThatEnd(t *testing.T) {
	assisted(t, 3, twoWaves, func(c *cluster, _ *beside) {
		kubelet := c.after
		c.mu.Lock()
		c.after = func(pod *corev1.Pod) {
			if pod.Spec.Containers[0].Image != "agent:bad" || pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodPending {
				kubelet(pod)
				return
			}
			time.AfterFunc(time.Second, func() {
				c.editPod(pod.Name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
			})
		}
		c.mu.Unlock()
		c.editSet(image("agent:bad"))
		c.run(3 * time.Minute)
		c.wantRelease("then", "Halted TooManyFailed first 1", map[string]int{"agent:1": 2})
		if f := c.rollout().Status.Failures; len(f) != 1 || f[0].Reason != "Restarting" {
			t.Errorf("the failures are %+v", f)
		}
	})
}

// Beside another controller, a pod that was deleted has not failed, whatever its kubelet says as it goes.
func TestDeletedPodsHaveNotFailed(t *testing.T) {
	s, now := newState(key("set")), time.Now()
	s.endedBeside([]*plan.Pod{{UID: "told to", Node: "a", Phase: plan.Failed, Deleted: now}, {UID: "by itself", Node: "b", Phase: plan.Failed}}, now)
	if s.backoff["a"].Delay != 0 || s.backoff["b"].Delay == 0 {
		t.Errorf("%+v", s.backoff)
	}
}
