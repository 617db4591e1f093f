package compat

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestTakeover changes the programs of a cluster in the middle of a rolling
// update, as an administrator does: kube-controller-manager is restarted
// without its DaemonSet controller and everynode-controller is started. Later
// it is the other way round. Every node gets one pod of the old template and
// one of the new one, and the budget holds throughout.
func TestTakeover(t *testing.T) {
	const nodes = 60
	x := newFailover(t, leaderFault{}, nodes, buildController(t))
	manager := build(t, "k8s.io/kubernetes/cmd/kube-controller-manager")
	builtIn := x.manage(manager, "*")
	x.l.create(agent(rolling(1, 0), func(ds *appsv1.DaemonSet) {
		*ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = intstr.FromString("10%")
	}))
	x.finish("coverage by kube-controller-manager", nodes)

	x.l.edit(image("agent:2"))
	x.wait("a third is updated", patience, func() bool { return x.updated("agent:2") >= nodes/3 })
	x.stop(builtIn)
	before := x.updated("agent:2")
	without := x.manage(manager, "*,-daemonset-controller")
	found := x.o.results() // only ours is judged: upstream breaks its budget now and then
	our := x.start()
	x.pair = append(x.pair, our)
	x.wait("more is updated", patience, func() bool { return x.updated("agent:2") >= max(before+10, 2*nodes/3) })
	x.stop(our)
	if now := x.o.results(); now.doubles != found.doubles || now.breaches != found.breaches {
		t.Errorf("ours made two pods on a node %v times and broke the budget %v times, were %v and %v:\n%s",
			now.doubles, now.breaches, found.doubles, found.breaches, strings.Join(now.wrong, "\n"))
	}
	x.stop(without)
	if done := x.updated("agent:2"); before >= nodes || done >= nodes {
		t.Errorf("%d and %d of %d nodes were updated when the program changed: it was not in the middle", before, done, nodes)
	}
	x.manage(manager, "*")
	x.finish("the update by kube-controller-manager", nodes)

	x.l.mu.Lock()
	defer x.l.mu.Unlock()
	if made := len(x.l.seen); made != 2*nodes {
		t.Errorf("%d pods were made for %d nodes and two templates", made, nodes)
	}
}

// manage runs kube-controller-manager with these controllers, but without those
// that need more of a cluster than the lab has: nodes here send no heartbeats
// and have no service accounts.
func (x *failover) manage(program, controllers string) *process {
	x.t.Helper()
	g := x.p.open("manager")
	p := launch(x.t, exec.Command(program, "--kubeconfig="+x.kubeconfig(g), "--secure-port=0", "--leader-elect=false",
		"--controllers="+controllers+",-node-lifecycle-controller,-serviceaccount-token-controller",
		"--kube-api-qps=200", "--kube-api-burst=400", "--flex-volume-plugin-dir="+x.dir), g, x.dir)
	x.pair = append(x.pair, p)
	return p
}

// stop ends a program as its service manager would.
func (x *failover) stop(p *process) {
	x.t.Helper()
	p.signal(syscall.SIGTERM)
	<-p.dead
	p.gate.drain()
}

// updated returns how many nodes have a ready pod of that image.
func (x *failover) updated(image string) (n int) {
	for _, p := range x.l.pods() {
		if p.Spec.Containers[0].Image == image && p.DeletionTimestamp == nil && isReady(&p) {
			n++
		}
	}
	return n
}
