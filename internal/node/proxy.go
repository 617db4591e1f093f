package node

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
	"sigs.k8s.io/yaml"

	"everynode/internal/node/podnet"
)

// KubeProxy runs kube-proxy in this process until it or ctx ends. It takes the
// stock kube-proxy's arguments. A process can run it only once, and must then end,
// because kube-proxy cannot be stopped in any other way. Its rules stay for its
// successor.
func KubeProxy(ctx context.Context, args []string) error {
	cmd := proxyapp.NewProxyCommand()
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("kube-proxy: %w", err)
		}
		return nil
	}
}

// proxyConfiguration is kube-proxy's configuration as YAML.
//
// kube-proxy recognizes traffic of this node's pods by the bridge that it comes
// from, and need not know the pod range. Another network may have no bridge: then
// kube-proxy uses the range. The size of the conntrack table belongs to the whole
// machine, and is read-only in a network namespace: 0 leaves it alone.
func proxyConfiguration(cfg Config, m machine) ([]byte, error) {
	zero := int32(0)
	pc := proxyconfig.KubeProxyConfiguration{
		TypeMeta:           metav1.TypeMeta{APIVersion: proxyconfig.SchemeGroupVersion.String(), Kind: "KubeProxyConfiguration"},
		Mode:               "nftables",
		HostnameOverride:   cfg.Name,
		BindAddress:        cfg.NodeIP,
		HealthzBindAddress: "127.0.0.1:10256",
		MetricsBindAddress: "127.0.0.1:10249",
		DetectLocalMode:    "BridgeInterface",
		DetectLocal:        proxyconfig.DetectLocalConfiguration{BridgeInterface: podnet.Bridge},
		Conntrack:          proxyconfig.KubeProxyConntrackConfiguration{MaxPerCore: &zero, Min: &zero},
	}
	if cfg.CNI == podnet.None {
		pc.DetectLocalMode, pc.DetectLocal.BridgeInterface = "NodeCIDR", ""
	}
	pc.ClientConnection.Kubeconfig = cfg.files().kubeconfig()
	if !m.sysResource {
		pc.OOMScoreAdj = &zero
	}
	out, err := yaml.Marshal(pc)
	if err != nil {
		return nil, fmt.Errorf("render kube-proxy's configuration: %w", err)
	}
	return out, nil
}

// proxyProcess is kube-proxy as a child.
func proxyProcess(cfg Config, self string) process {
	return process{
		path: self,
		args: []string{"kube-proxy", "--config=" + cfg.files().proxyConfig()},
		env:  childEnv(cfg.RuntimeDir),
		log:  cfg.files().path("kube-proxy.log"),
		tell: cfg.Log,
	}
}
