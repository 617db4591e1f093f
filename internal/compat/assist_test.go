package compat

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"everynode/internal/engine"
	"everynode/internal/engine/command"
)

const assistRoles = "../../deploy/assist/roles.yaml"

// assists is the name of our engine when it works beside the cluster's controller.
const assists = "ours, which assists"

// assistant returns our engine that works beside the cluster's controller, with the rights in deploy/assist.
func assistant(g *guard) controller {
	return controller{assists, func(ctx context.Context, t *testing.T, config *rest.Config) error {
		g.put(config)
		var out io.Writer = io.Discard
		if os.Getenv("EVERYNODE_LOG") != "" {
			out = t.Output()
		}
		return engine.Run(ctx, engine.Config{Client: config, LeaderElect: true, Assist: true, Monitor: engine.NewMonitor(), Log: slog.New(slog.NewTextHandler(out, nil))})
	}}
}

// builtIn returns Kubernetes' controller of the API server's version: the one in this process, or, for another
// version (apiServerEnv), the kube-controller-manager that was built with it.
func builtIn(t *testing.T) controller {
	t.Helper()
	server := os.Getenv(apiServerEnv)
	if server == "" {
		return upstream
	}
	program := filepath.Join(filepath.Dir(server), "kube-controller-manager")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("it takes the kube-controller-manager of %s beside its kube-apiserver (make skew): %v", filepath.Base(filepath.Dir(server)), err)
	}
	return controller{program, func(ctx context.Context, t *testing.T, config *rest.Config) error {
		return runManager(ctx, t.TempDir(), program, config)
	}}
}

// newAssisted returns a cluster with a policy, and with Kubernetes' controller at work.
func newAssisted(t *testing.T, policy string, nodes int, edits ...func(*appsv1.DaemonSet)) (d *rolloutKinds, theirs *running, g *guard) {
	t.Helper()
	d, g = newRolloutKinds(t), newGuard()
	d.dropTraces()
	readRoles(t, assistRoles, "everynode-controller").grant(t, d.client)
	_, err := d.make(d.policies, "RolloutPolicy", "waves", policy)
	d.do(err)
	theirs = d.begin(builtIn(t), agent(append(edits, follows)...), names(nodes)...)
	return d, theirs, g
}

// becomes makes the kubelets bring pods of that image only to that phase.
func (l *lab) becomes(image string, phase corev1.PodPhase) {
	l.kubelet.change(func(k *kubelet) {
		k.phase = func(p *corev1.Pod) corev1.PodPhase {
			if p.Spec.Containers[0].Image == image {
				return phase
			}
			return corev1.PodRunning
		}
	})
}

func onDelete(ds *appsv1.DaemonSet) {
	ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
}

// TestAssist takes releases through beside Kubernetes' controller: one is aborted and reverted, one is approved, and
// in the middle of one the engine is switched off.
func TestAssist(t *testing.T) {
	d, _, g := newAssisted(t, twoWaves, 3, rolling(1, 0))
	ours := d.start(assistant(g))
	d.stands(0, "Held", "NotDriven")
	if s := d.rollout().Status; !strings.Contains(s.Message, "kubectl -n compat patch daemonset agent") || !s.Assists {
		t.Errorf("nobody is told what to do: %+v", s)
	}
	d.edit(image("agent:2"))
	d.until("Kubernetes' controller has rolled it out", func() bool { return d.everywhere("agent:2") })
	d.edit(onDelete)
	d.stands(1, "Idle", "")

	d.edit(image("agent:3"))
	d.stands(2, "Waiting", "NotApproved")
	d.wantImages("in the first wave", map[string]int{"agent:3": 1, "agent:2": 2})
	ours.stop()
	d.addNode("n4", nil)
	d.until("the new node has a pod", func() bool { return d.of("agent:3") == 2 })
	ours = d.start(assistant(g))
	d.until("what is out of turn is told", func() bool { s := d.rollout().Status; return s.Nodes.Leaked == 1 && s.Nodes.Exposed == 2 })
	d.stands(2, "Waiting", "NotApproved")
	d.ask(map[string]any{"abort": 2})
	d.stands(2, "Aborted", "AbortRequested")
	d.wantImages("after the abort", map[string]int{"agent:3": 2, "agent:2": 2})
	if s := d.rollout().Status; !strings.Contains(s.Message, "revert") || s.Nodes.Exposed != 2 {
		t.Errorf("nobody is told how to take it back: %+v", s)
	}
	d.edit(image("agent:2"))
	d.until("the revert is done", func() bool { return d.everywhere("agent:2") })
	d.stands(3, "Idle", "")

	g.twice.Insert("DELETE pods")
	d.edit(image("agent:4"))
	d.stands(4, "Waiting", "NotApproved")
	for _, paused := range []bool{true, false, true, false} {
		d.ask(map[string]any{"paused": paused})
		d.until("the release heeds it", func() bool { return (d.rollout().Status.Phase == "Paused") == paused })
	}
	d.removeNode("n4")
	d.collectPods()
	d.ask(map[string]any{"promote": map[string]any{"release": 4, "wave": "first"}})
	d.until("all have it", func() bool { return d.everywhere("agent:4") })
	d.stands(4, "Idle", "")

	d.edit(image("agent:5"))
	d.stands(5, "Waiting", "NotApproved")
	ours.stop()
	d.wantImages("without the engine", map[string]int{"agent:5": 1, "agent:4": 2})
	for what := range ours.tally() {
		if !slices.Contains([]string{"DELETE pods", "PUT daemonsetrollouts/status", "POST daemonsetrollouts", "PUT leases", "POST leases", "POST selfsubjectaccessreviews"}, what) {
			t.Errorf("an engine that assists writes %s", what)
		}
	}
	d.keepsTo(g, assistRoles)
}

// keepsTo compares the requests to the API server with the roles in a file, in both directions. For the resources in
// unsent the engine needs the right but sends no request.
func (d *rolloutKinds) keepsTo(g *guard, file string, unsent ...string) {
	d.t.Helper()
	for _, denied := range g.denials() {
		d.t.Errorf("denied: %s", denied)
	}
	granted := readRoles(d.t, file, "everynode-controller").rights()
	everybody, err := d.client.RbacV1().ClusterRoles().Get(d.t.Context(), "system:basic-user", metav1.GetOptions{})
	d.do(err)
	may := append(granted.UnsortedList(), rightsOf(everybody.Rules).UnsortedList()...)
	for asked := range g.asked {
		if !slices.ContainsFunc(may, func(r right) bool { return r.covers(asked) }) {
			d.t.Errorf("asked for, and no rule of %s grants it: %s", file, asked)
		}
	}
	for r := range granted {
		if !slices.Contains(unsent, r.resource) && !slices.ContainsFunc(g.asked.UnsortedList(), r.covers) {
			d.t.Errorf("granted, and the engine never asked for it: %s", r)
		}
	}
}

// TestAssistHolds: while Kubernetes' controller does not work, or may not do what a release needs, the engine does
// nothing, and says so.
func TestAssistHolds(t *testing.T) {
	d, theirs, g := newAssisted(t, "{waves: [{name: all, nodes: 100%}]}", 3, rolling(1, 0), onDelete)
	ours := d.start(assistant(g))
	d.stands(0, "Idle", "")
	d.edit(rolling(0, 1), onDelete)
	d.stands(0, "Held", "NotDriven")
	if m := d.rollout().Status.Message; !strings.Contains(m, "maxUnavailable is 0") {
		t.Errorf("nobody is told what to do: %s", m)
	}
	d.edit(rolling(0, 0), onDelete)
	d.rest()
	d.stands(0, "Held", "NotDriven")
	d.edit(rolling(1, 0), onDelete)
	d.stands(0, "Idle", "")
	theirs.stop()
	d.edit(image("agent:2"))
	d.stands(0, "Held", "NotObserved")
	d.edit(rolling(2, 0), onDelete)
	ours.stop()
	ours = d.start(assistant(g))
	d.stands(0, "Held", "NotObserved")
	d.wantImages("without Kubernetes' controller", map[string]int{"agent:1": 3})
	d.start(builtIn(t))
	d.until("all have it", func() bool { return d.everywhere("agent:2") })
	d.stands(1, "Idle", "")
	ours.stop()
}

// TestAssistMendsFirst: pods of an abandoned version, which Kubernetes' controller has created out of turn, get the
// fix first, also if they fail after the order of the nodes was worked out. While they are down, no other pod may go.
func TestAssistMendsFirst(t *testing.T) {
	d, _, g := newAssisted(t, twoWaves, 4, rolling(1, 0), onDelete)
	ours := d.start(assistant(g))
	d.stands(0, "Idle", "")
	d.edit(image("agent:2"))
	d.stands(1, "Waiting", "NotApproved")
	first := ""
	for node, has := range d.images() {
		if has == "agent:2" {
			first = node
		}
	}
	d.ask(map[string]any{"promote": map[string]any{"release": 1, "wave": "first"}, "paused": false})
	d.stands(1, "Idle", "")
	d.ask(map[string]any{"paused": true})
	d.edit(image("agent:bad"))
	d.stands(2, "Paused", "PauseRequested")
	bad := 0
	for node := range d.images() {
		if node != first && bad < 2 {
			d.do(d.client.CoreV1().Pods(namespace).Delete(t.Context(), d.podOn(node).Name, metav1.DeleteOptions{}))
			bad++
		}
	}
	d.until("two have the bad version", func() bool { return d.of("agent:bad") == 2 })
	d.edit(image("agent:3"))
	d.stands(3, "Paused", "PauseRequested")
	for _, pod := range d.pods() {
		if pod.Spec.Containers[0].Image == "agent:bad" {
			d.do(setReady(t.Context(), d.client, &pod, corev1.PodRunning, corev1.ConditionFalse))
		}
	}
	d.rest() // until the engine has seen it
	d.ask(map[string]any{"paused": false})
	d.stands(3, "Waiting", "NotApproved")
	d.wantImages("in the first wave", map[string]int{"agent:3": 1, "agent:bad": 1, "agent:2": 2})
	ours.stop()
}

// TestAssistStopsAtPodsThatEnd: a version whose pods end, and which Kubernetes' controller creates again and again,
// has failed.
func TestAssistStopsAtPodsThatEnd(t *testing.T) {
	d, _, g := newAssisted(t, twoWaves, 3, rolling(1, 0), onDelete)
	d.becomes("agent:bad", corev1.PodFailed)
	ours := d.start(assistant(g))
	d.stands(0, "Idle", "")
	d.edit(image("agent:bad"))
	d.stands(1, "Halted", "TooManyFailed")
	d.until("one node has it", func() bool { return d.of("agent:1") == 2 })
	ours.stop()
}

// TestCheck: the command that `helm test` runs reports, with the rights of the account, whether an engine works.
func TestCheck(t *testing.T) {
	d, _, g := newAssisted(t, twoWaves, 1, rolling(1, 0), onDelete)
	ours := d.start(assistant(g))
	d.stands(0, "Idle", "")
	check := func(timeout string) error {
		cmd := command.NewCheck(d.asAccount)
		cmd.SetArgs([]string{"--timeout=" + timeout})
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return cmd.ExecuteContext(t.Context())
	}
	d.do(check("1m"))
	ours.stop()
	if err := check("3s"); err == nil || !strings.Contains(err.Error(), "nobody holds it") {
		t.Errorf("without an engine it says %v", err)
	}
}
