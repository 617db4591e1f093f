package localcluster

// Flags of the programs that a cluster is made of. Flags of `up` for the same choices have the same names.
const (
	// FlagEngine switches the engine inside the control plane off, for one that runs elsewhere.
	FlagEngine = "daemonset-controller"
	// FlagHostPaths chooses what to do about pods with harmful hostPath volumes.
	FlagHostPaths = "host-path-policy"
	// FlagLocal is given by `up` to the programs that it starts: they use directories of its own.
	FlagLocal = "local"
	// FlagSimulator makes the control plane create what simulated nodes need.
	FlagSimulator = "simulator"
	// FlagPodSecurity holds pods to a standard.
	FlagPodSecurity = "pod-security"
	// FlagAudit makes the control plane keep an audit log.
	FlagAudit = "audit"
	// FlagPublish gives services ports of this machine.
	FlagPublish = "publish"
	// FlagSnapshotEvery is how often a server saves its cluster by itself.
	FlagSnapshotEvery = "snapshot-every"
	// FlagWith and FlagWithout choose add-ons.
	FlagWith    = "with"
	FlagWithout = "without"
	// FlagRegistries names the file about registries for the nodes.
	FlagRegistries = "registry-config"
	// FlagKubelet names the file of kubelet settings.
	FlagKubelet = "kubelet-config"
	// FlagContainerd names the file of containerd's settings.
	FlagContainerd = "containerd-config"
	// FlagCNI and FlagKubeProxy leave parts of a node's network to other software.
	FlagCNI       = "cni"
	FlagKubeProxy = "kube-proxy"
)
