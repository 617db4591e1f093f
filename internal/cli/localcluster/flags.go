package localcluster

// Flags of the programs that a cluster is made of. Those of `up` that choose the same have the same names.
const (
	// FlagEngine switches the engine inside the control plane off, for one that runs elsewhere.
	FlagEngine = "daemonset-controller"
	// FlagHostPaths says what becomes of pods with hostPath volumes that may do harm.
	FlagHostPaths = "host-path-policy"
	// FlagSimulator has the control plane make what simulated nodes need.
	FlagSimulator = "simulator"
	// FlagPodSecurity holds pods to a standard.
	FlagPodSecurity = "pod-security"
	// FlagAudit has the control plane keep an audit log.
	FlagAudit = "audit"
	// FlagPublish has ports of this machine that lead to services.
	FlagPublish = "publish"
	// FlagSnapshotEvery says how often a server saves its cluster by itself.
	FlagSnapshotEvery = "snapshot-every"
	// FlagWith and FlagWithout choose add-ons.
	FlagWith    = "with"
	FlagWithout = "without"
	// FlagRegistries names a file of registries for the nodes.
	FlagRegistries = "registry-config"
	// FlagKubelet names a file of the kubelet's settings.
	FlagKubelet = "kubelet-config"
	// FlagCNI and FlagKubeProxy say what of a node's network is somebody else's.
	FlagCNI       = "cni"
	FlagKubeProxy = "kube-proxy"
)
