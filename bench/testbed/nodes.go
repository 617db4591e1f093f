package testbed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// imagesPerNode is how many images a kubelet reports at most.
	imagesPerNode = 50
	// driverWorkers is how many requests the driver sends at a time.
	driverWorkers = 24
)

// LabelSerial and LabelReal are on the first nodes of a cluster.
const (
	LabelSerial = "bench.example/serial"
	LabelReal   = "bench.example/real"
)

// NodeName returns a name for node i of a family like those in a cloud.
func NodeName(family string, i int) string {
	return fmt.Sprintf("ip-10-%d-%d-%s.eu-west-1.compute.internal", i/256, i%256, family)
}

// NewNode returns a node as a kubelet in a cloud registers it: about 20 kB.
func NewNode(name string, i int, extra map[string]string) *corev1.Node {
	zone := fmt.Sprintf("eu-west-1%c", 'a'+i%3)
	labels := map[string]string{
		corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux", corev1.LabelHostname: name,
		corev1.LabelInstanceTypeStable: "m7i.16xlarge", corev1.LabelTopologyZone: zone, corev1.LabelTopologyRegion: "eu-west-1",
		"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/instance-type": "m7i.16xlarge",
		"failure-domain.beta.kubernetes.io/region": "eu-west-1", "failure-domain.beta.kubernetes.io/zone": zone,
		"node.example.com/pool": fmt.Sprintf("general-%d", i%4), "node.example.com/lifecycle": "on-demand",
		"node.example.com/image": "ami-0f3c9b7a1d2e4f567", "node.example.com/capacity-type": "reserved",
		"topology.ebs.csi.aws.com/zone": zone, "k8s.io/cloud-provider-aws": "3f1c2a9d5b7e8f60412c3d4e5f607182",
	}
	for k, v := range extra {
		labels[k] = v
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{
			"alpha.kubernetes.io/provided-node-ip":                   nodeIP(i),
			"csi.volume.kubernetes.io/nodeid":                        fmt.Sprintf(`{"ebs.csi.aws.com":"i-%017x","efs.csi.aws.com":"i-%017x"}`, i, i),
			"network.example.com/interfaces":                         interfaces(i),
			"node.alpha.kubernetes.io/ttl":                           "0",
			"volumes.kubernetes.io/controller-managed-attach-detach": "true",
		}},
		Spec: corev1.NodeSpec{ProviderID: fmt.Sprintf("aws:///%s/i-%017x", zone, i), PodCIDR: nodeCIDR(i), PodCIDRs: []string{nodeCIDR(i)}},
		Status: corev1.NodeStatus{
			Capacity: capacity("64", "263882732Ki"), Allocatable: capacity("63770m", "256310252Ki"),
			Conditions: NodeConditions(time.Now()),
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP(i)}, {Type: corev1.NodeHostName, Address: name},
				{Type: corev1.NodeInternalDNS, Address: name}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
			NodeInfo: corev1.NodeSystemInfo{MachineID: Hash("machine", i)[:32], SystemUUID: Hash("system", i)[:36], BootID: Hash("boot", i)[:36],
				KernelVersion: "6.12.48-73.120.amzn2023.x86_64", OSImage: "Amazon Linux 2023.9.20261105", ContainerRuntimeVersion: "containerd://2.4.2",
				KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64"},
			Images: images(i),
		},
	}
}

func nodeIP(i int) string   { return fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256) }
func nodeCIDR(i int) string { return fmt.Sprintf("100.%d.%d.0/24", 64+i/256, i%256) }

// interfaces returns an annotation of a network plugin.
func interfaces(i int) string {
	var b strings.Builder
	for k := range 12 {
		fmt.Fprintf(&b, `{"name":"eni%d","id":"eni-%017x","mac":"0a:%02x:%02x:1f:2c:%02x","subnet":"subnet-0a1b2c3d4e5f60718","addresses":["100.%d.%d.%d/32"]},`,
			k, i*16+k, i/256%256, i%256, k, 64+i/256, i%256, k)
	}
	return "[" + strings.TrimSuffix(b.String(), ",") + "]"
}

func Hash(kind string, i int) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, i)))
}

func capacity(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourceEphemeralStorage: resource.MustParse("104779756Ki"), corev1.ResourcePods: resource.MustParse("737"),
		"hugepages-1Gi": resource.MustParse("0"), "hugepages-2Mi": resource.MustParse("0"),
	}
}

// NodeConditions returns the conditions of a healthy node with a heartbeat at now.
func NodeConditions(now time.Time) []corev1.NodeCondition {
	var all []corev1.NodeCondition
	for _, c := range []struct {
		kind            corev1.NodeConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		{corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		{corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
		{corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"},
	} {
		all = append(all, corev1.NodeCondition{Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message,
			LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))})
	}
	return all
}

// images returns a node's report of pulled images, each with two names.
func images(i int) []corev1.ContainerImage {
	list := make([]corev1.ContainerImage, imagesPerNode)
	for k := range list {
		repository := fmt.Sprintf("602401143452.dkr.ecr.eu-west-1.amazonaws.com/platform/observability/production/service-%02d", (i+k)%97)
		list[k] = corev1.ContainerImage{SizeBytes: int64(20_000_000 + 1_234_567*k), Names: []string{
			repository + "@sha256:" + Hash("image", (i+k)%97), fmt.Sprintf("%s:v1.%d.%d", repository, k, i%7)}}
	}
	return list
}

// Parallel calls do with 0 to n-1, driverWorkers at a time, until one call fails.
func Parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(driverWorkers)
	for i := range n {
		if working.Err() != nil {
			break
		}
		g.Go(func() error { return do(working, i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// Fill creates the namespace with the agent's account, and n nodes. labels is how many of them have each label. It
// creates a node and then writes its status, so that both have managed fields. nodeBytes is the size of one node.
func (c *Cluster) Fill(ctx context.Context, n int, labels map[string]int) (nodeBytes int, err error) {
	core := c.Client.CoreV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("make the namespace: %w", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: AgentName}}
	if _, err := core.ServiceAccounts(Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("make the agent's account: %w", err)
	}
	err = Parallel(ctx, n, func(ctx context.Context, i int) error {
		extra := map[string]string{}
		for label, nodes := range labels {
			if i < nodes {
				extra[label] = "true"
			}
		}
		want := NewNode(NodeName("0", i), i, extra)
		bare := want.DeepCopy()
		bare.Status = corev1.NodeStatus{}
		made, err := core.Nodes().Create(ctx, bare, metav1.CreateOptions{FieldManager: "kubelet"})
		if err != nil {
			return fmt.Errorf("make node %d: %w", i, err)
		}
		made.Status = want.Status
		if made, err = core.Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{FieldManager: "kubelet"}); err != nil {
			return fmt.Errorf("write the status of node %d: %w", i, err)
		}
		if i == 0 {
			nodeBytes = made.Size()
		}
		return nil
	})
	return nodeBytes, err
}
