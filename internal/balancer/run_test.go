package balancer

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
)

// keptRoutes remembers the routes that were set last.
type keptRoutes struct {
	mu  sync.Mutex
	now map[netip.Addr]netip.Addr
}

func (k *keptRoutes) Set(want map[netip.Addr]netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = maps.Clone(want)
	return nil
}

func (k *keptRoutes) are(want map[netip.Addr]netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now != nil && maps.Equal(k.now, want)
}

func nodeObject(name, address string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
	}}
}

func balanced(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
}

func eventually(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true, holds); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func addressOf(ctx context.Context, client kubernetes.Interface, name string) (string, error) {
	s, err := client.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil || len(s.Status.LoadBalancer.Ingress) == 0 {
		return "", err
	}
	return s.Status.LoadBalancer.Ingress[0].IP, nil
}

func TestRun(t *testing.T) {
	other := balanced("of-another-class")
	other.Spec.LoadBalancerClass = new("example.com/other")
	client := fake.NewClientset(nodeObject("sim-1", "127.0.0.1", corev1.ConditionTrue), nodeObject("node-1", "10.0.0.101", corev1.ConditionTrue),
		balanced("web"), other)
	routes := &keptRoutes{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, client, Config{Range: ours, Routes: routes, Log: slog.New(slog.DiscardHandler)})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	first, via := addr("10.0.0.201"), addr("10.0.0.101")
	eventually(t, "the service has an address", func(ctx context.Context) (bool, error) {
		a, err := addressOf(ctx, client, "web")
		return a == "10.0.0.201" && routes.are(map[netip.Addr]netip.Addr{first: via}), err
	})
	if a, err := addressOf(ctx, client, "of-another-class"); err != nil || a != "" {
		t.Errorf("a service of another class has the address %q, %v", a, err)
	}
	if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, nodeObject("node-1", "10.0.0.101", corev1.ConditionUnknown), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a node that is not Ready gets no traffic", func(context.Context) (bool, error) { return routes.are(nil), nil })
	if _, err := client.CoreV1().Nodes().Create(ctx, nodeObject("node-2", "10.0.0.102", corev1.ConditionTrue), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new node gets it", func(context.Context) (bool, error) {
		return routes.are(map[netip.Addr]netip.Addr{first: addr("10.0.0.102")}), nil
	})
	asks := balanced("asks")
	asks.Spec.LoadBalancerIP = "192.0.2.1"
	if _, err := client.CoreV1().Services("default").Create(ctx, asks, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told why there is no address", func(ctx context.Context) (bool, error) {
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		return err == nil && len(events.Items) == 1 && events.Items[0].Reason == "NoAddress", err
	})
	if err := client.CoreV1().Services("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route goes with the service", func(context.Context) (bool, error) { return routes.are(nil), nil })
}
