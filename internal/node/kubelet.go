package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"sigs.k8s.io/yaml"
)

// Kubelet runs the kubelet in this process, until it ends by itself or by a signal. It
// takes the stock kubelet's arguments. A process can run it only once.
func Kubelet(ctx context.Context, args []string) error {
	cmd := kubeletapp.NewKubeletCommand(ctx)
	cmd.SetArgs(args)
	cmd.SilenceErrors = true // the caller prints them
	if err := cmd.ExecuteContext(ctx); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	return nil
}

// kubeletConfiguration is the kubelet's configuration as YAML. resolvConf is
// the file with the name servers that pods get.
func kubeletConfiguration(cfg Config, m machine, resolvConf string) ([]byte, error) {
	no, yes, zero := false, true, int32(0)
	first, err := cfg.taints()
	if err != nil {
		return nil, err
	}
	kc := kubeletconfig.KubeletConfiguration{
		TypeMeta:                 metav1.TypeMeta{APIVersion: kubeletconfig.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		Address:                  cfg.kubeletAddress(),
		HealthzBindAddress:       "127.0.0.1",
		ReadOnlyPort:             0,
		RotateCertificates:       true,
		ServerTLSBootstrap:       true,
		ContainerRuntimeEndpoint: cfg.endpoint(),
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               cfg.CgroupRoot,
		FailCgroupV1:             &no,
		EnforceNodeAllocatable:   []string{"none"},
		FailSwapOn:               &no,
		MakeIPTablesUtilChains:   &no,
		ClusterDomain:            clusterDomain,
		ResolverConfig:           &resolvConf,
		MaxPods:                  110,
		CPUManagerPolicy:         "none",
		ContainerLogMaxSize:      "10Mi",
		VolumePluginDir:          cfg.files().path("volume-plugins"),
		SerializeImagePulls:      &no, // an image that cannot be pulled must not hold up the others
	}
	kc.SystemReserved, kc.RegisterWithTaints = cfg.Reserved, first
	kc.Authentication.Anonymous.Enabled = &no
	kc.Authentication.X509.ClientCAFile = cfg.files().ca()
	kc.Authentication.Webhook.Enabled = &yes
	kc.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	if !m.sysResource {
		kc.OOMScoreAdj = &zero // the process may not lower its score
	}
	if cfg.ClusterDNS != "" {
		kc.ClusterDNS = []string{cfg.ClusterDNS}
	}
	if cfg.Local {
		shareDisk(&kc)
	} else {
		guardMachine(&kc)
	}
	out, err := yaml.Marshal(kc)
	if err != nil {
		return nil, fmt.Errorf("render the kubelet's configuration: %w", err)
	}
	return out, nil
}

// kubeletAddress is where the kubelet listens. A local node has a network of its own,
// and all its addresses are reachable from the same places. So its kubelet listens on
// all of them, because agents on the node's network also use 127.0.0.1. A machine may
// have addresses that the world can reach, so there the kubelet listens only on the
// node's.
func (cfg Config) kubeletAddress() string {
	if cfg.Local {
		return "0.0.0.0"
	}
	return cfg.NodeIP
}

// podPids is how many processes and threads a pod may have: more than databases need,
// and few enough for a machine to bear.
const podPids = 16384

// guardMachine protects what a machine needs itself: it enforces that pods leave the
// reserved memory and CPU alone, limits the processes of each pod, and by default
// blocks system calls that containers should not make.
func guardMachine(kc *kubeletconfig.KubeletConfiguration) {
	yes, pids := true, int64(podPids)
	kc.EnforceNodeAllocatable = []string{"pods"}
	kc.PodPidsLimit, kc.SeccompDefault = &pids, &yes
}

// shareDisk switches off what acts on a full disk. Local nodes share one, and would
// all evict pods and delete images because of a file that none of them wrote. The
// encoder would leave out an empty map, so it sets thresholds of 0%, which mean none.
func shareDisk(kc *kubeletconfig.KubeletConfiguration) {
	full := int32(100)
	kc.ImageGCHighThresholdPercent = &full
	kc.EvictionHard = map[string]string{
		"imagefs.available":  "0%",
		"imagefs.inodesFree": "0%",
		"memory.available":   "0%",
		"nodefs.available":   "0%",
		"nodefs.inodesFree":  "0%",
	}
}

// kubeletArgs are the kubelet's flags: settings that its configuration file does not
// have. None of them is secret.
func kubeletArgs(cfg Config, bootstrap bool) []string {
	args := []string{
		"--config=" + cfg.files().kubeletConfig(),
		"--kubeconfig=" + cfg.files().kubeconfig(),
		"--cert-dir=" + cfg.files().path("pki"),
		"--root-dir=" + kubeletRoot,
		"--hostname-override=" + cfg.Name,
		"--node-ip=" + cfg.NodeIP,
	}
	if len(cfg.kubeletFragment) > 0 {
		args = append(args, "--config-dir="+cfg.files().kubeletDropIns())
	}
	if bootstrap {
		args = append(args, "--bootstrap-kubeconfig="+cfg.files().bootstrapKubeconfig())
	}
	if len(cfg.Labels) > 0 {
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(cfg.Labels)) {
			pairs = append(pairs, key+"="+cfg.Labels[key])
		}
		args = append(args, "--node-labels="+strings.Join(pairs, ","))
	}
	return args
}

// kubeletProcess is the kubelet as a child. It is given the bootstrap credentials only
// while they exist: afterwards the kubelet has its own.
func kubeletProcess(cfg Config, self string) process {
	_, err := os.Stat(cfg.files().bootstrapKubeconfig())
	return process{
		path: self,
		args: append([]string{"kubelet"}, kubeletArgs(cfg, err == nil)...),
		env:  childEnv(cfg.RuntimeDir),
		log:  cfg.files().path("kubelet.log"),
		tell: cfg.Log,
	}
}
