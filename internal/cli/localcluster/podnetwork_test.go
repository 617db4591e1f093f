package localcluster

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// A node that lacks only a network is told from one that lacks more, or whose
// report is from before.
func TestLacksNetwork(t *testing.T) {
	const network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
	begin := time.Date(2026, 1, 1, 0, 0, 10, 0, time.UTC)
	for _, c := range []struct {
		name, message string
		status        corev1.ConditionStatus
		at            time.Time
		want          bool
	}{
		{"network", network, corev1.ConditionFalse, begin, true},
		{"an old report", network, corev1.ConditionFalse, begin.Add(-time.Minute), false},
		{"more than that", "[container runtime is down, " + network + "]", corev1.ConditionFalse, begin, false},
		{"not known yet", "network state unknown", corev1.ConditionFalse, begin, false},
		{"ready", "kubelet is posting ready status", corev1.ConditionTrue, begin, false},
	} {
		node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: c.status, Message: c.message, LastHeartbeatTime: metav1.NewTime(c.at)}}}}
		if got := LacksNetwork(node, begin); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if LacksNetwork(&corev1.Node{}, begin) {
		t.Error("a node that has said nothing")
	}
}

// Whoever brings a network must know the range that the API server reaches pods in.
func TestNetworkHint(t *testing.T) {
	c := &local.Cluster{PodCIDR: netip.MustParsePrefix("10.43.0.0/16")}
	const rest = " (docs/local-cluster.md)."
	for _, tt := range []struct {
		noCNI, noKubeProxy bool
		want               string
	}{
		{false, false, ""},
		{false, true, "The nodes have no kube-proxy: install what you want there" + rest},
		{true, false, "The nodes have no pod network: install what you want there, with the pod range 10.43.0.0/16" + rest},
		{true, true, "The nodes have no pod network and no kube-proxy: install what you want there, with the pod range 10.43.0.0/16" + rest},
	} {
		c.NoCNI, c.NoKubeProxy = tt.noCNI, tt.noKubeProxy
		if got := NetworkHint(c); got != tt.want {
			t.Errorf("%v, %v: %q, want %q", tt.noCNI, tt.noKubeProxy, got, tt.want)
		}
	}
}

// The choice of a network is kept, and changes only while nothing runs.
func TestChooseNetwork(t *testing.T) {
	m := &Cluster{Cluster: &local.Cluster{DataDir: t.TempDir()}}
	if err := (choosing{m, Wanted{CNI: "none", CNIGiven: true}}).network(); err != nil || !m.NoCNI || m.NoKubeProxy {
		t.Fatalf("--cni none: %v, %v, %v", err, m.NoCNI, m.NoKubeProxy)
	}
	if err := (choosing{m, Wanted{CNI: "everynode", KubeProxy: true}}).network(); err != nil || !m.NoCNI {
		t.Errorf("nothing given: %v, %v", err, m.NoCNI)
	}
	release, err := datadir.Lock(m.ServerLock())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}()
	if err := (choosing{m, Wanted{CNI: "none", CNIGiven: true}}).network(); err != nil {
		t.Errorf("as it is: %v", err)
	}
	const want = "the cluster runs with --cni=none --kube-proxy=true: stop it with `everynode down` to change that"
	if err := (choosing{m, Wanted{KubeProxyGiven: true}}).network(); err == nil || err.Error() != want || m.NoKubeProxy {
		t.Errorf("while it runs: %v", err)
	}
}
