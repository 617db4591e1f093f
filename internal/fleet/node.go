package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/pkg/version"
)

const (
	region = "simulated"
	// roleLabel makes kubectl show the role "simulated".
	roleLabel = "node-role.kubernetes.io/simulated"
	// kubeletAddress is where the API server finds the kubelet of every simulated
	// node: it runs on the same machine.
	kubeletAddress = "127.0.0.1"
	// statusEvery is how often an unchanged status is written. The lease shows that a node is alive.
	statusEvery = 30 * time.Minute
	// writers is how many requests of one kind are under way at once: more would not make the API server
	// faster.
	writers = 16
)

// NewNode returns simulated node number index, counted from 0, in one of three zones. All simulated nodes
// claim podCIDR as their address range, but do not use it. This keeps the range allocator from giving each of
// them a range, which would soon leave none for real nodes.
func NewNode(name string, index int, podCIDR netip.Prefix) *corev1.Node {
	zone := fmt.Sprintf("%s-%c", region, 'a'+index%3)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			LabelSimulated:                 "true",
			former(LabelSimulated):         "true", // manifests that avoid such nodes may only know this label
			roleLabel:                      "",
			corev1.LabelHostname:           name,
			corev1.LabelArchStable:         runtime.GOARCH,
			corev1.LabelOSStable:           "linux",
			"beta.kubernetes.io/arch":      runtime.GOARCH,
			"beta.kubernetes.io/os":        "linux",
			corev1.LabelTopologyRegion:     region,
			corev1.LabelTopologyZone:       zone,
			corev1.LabelInstanceTypeStable: "simulated",
		}},
		Spec: corev1.NodeSpec{PodCIDR: podCIDR.String(), PodCIDRs: []string{podCIDR.String()}},
	}
}

// Add creates Nodes. Before each it waits for room. It stops at the first that cannot be created.
func Add(ctx context.Context, client kubernetes.Interface, nodes []*corev1.Node, room func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for _, n := range nodes {
		if err := room(ctx); err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			if _, err := client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("make the simulated node %s: %w", n.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Ready reports whether a Node's Ready condition is True.
func Ready(node *corev1.Node) bool {
	c := nodeCondition(node, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

func nodeCondition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == kind {
			return c
		}
	}
	return nil
}

// wantsStatus reports whether the Node does not say what its kubelet would, or has not been updated for too
// long.
func wantsStatus(node *corev1.Node, port int32, now time.Time) bool {
	ready := nodeCondition(node, corev1.NodeReady)
	return ready == nil || ready.Status != corev1.ConditionTrue || now.Sub(ready.LastHeartbeatTime.Time) >= statusEvery ||
		node.Status.DaemonEndpoints.KubeletEndpoint.Port != port
}

// statusPatch returns the whole status of a healthy node, for a strategic merge.
func statusPatch(node *corev1.Node, port int32, now time.Time) ([]byte, error) {
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	status := corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Conditions: healthy(node, metav1.NewTime(now)),
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: kubeletAddress},
			{Type: corev1.NodeExternalIP, Address: address(node.Name)},
			{Type: corev1.NodeHostName, Address: node.Name},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: digest("machine", node.Name), SystemUUID: digest("system", node.Name), BootID: digest("boot", node.Name),
			KernelVersion: "0.0.0-simulated", OSImage: "Simulated", ContainerRuntimeVersion: "simulated://" + version.Get().GitVersion,
			KubeletVersion: version.Get().GitVersion, OperatingSystem: "linux", Architecture: runtime.GOARCH,
		},
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID}, "status": status})
}

// healthy returns the conditions of a healthy node. A condition whose status has not changed keeps its time.
func healthy(node *corev1.Node, now metav1.Time) []corev1.NodeCondition {
	all := []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "the node is simulated"},
	}
	for i := range all {
		c := &all[i]
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		if old := nodeCondition(node, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return all
}

// address returns an address from 240.0.0.0/4, a range reserved for future use: no node, pod or router has an
// address there. Among many thousands of nodes two may share an address. That does no harm, because nothing
// is reachable there.
func address(name string) string {
	sum := sha256.Sum256([]byte(name))
	n := binary.BigEndian.Uint32(sum[:])
	return netip.AddrFrom4([4]byte{240 | byte(n>>24)%15, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

func digest(what, name string) string {
	sum := sha256.Sum256([]byte(what + " " + name))
	return fmt.Sprintf("%x", sum[:16])
}
