package node

import "path/filepath"

// kubeletRoot is the kubelet's own folder, which CSI drivers and device plugins expect there.
const kubeletRoot = "/var/lib/kubelet"

// nodeFiles is the folder with the files and folders of one node: the agent's data directory.
type nodeFiles string

func (d nodeFiles) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

func (d nodeFiles) socket() string { return d.path("containerd", "containerd.sock") }

func (d nodeFiles) containerdConfig() string { return d.path("containerd", "config.toml") }

// containerdImport is the file with the user's settings of containerd, which its configuration imports.
func (d nodeFiles) containerdImport() string { return d.path("containerd", "own.toml") }

func (d nodeFiles) kubeconfig() string { return d.path("kubelet.kubeconfig") }

func (d nodeFiles) bootstrapKubeconfig() string { return d.path("bootstrap.kubeconfig") }

func (d nodeFiles) ca() string { return d.path("pki", "ca.crt") }

// dropped is the file with the CAs that this node no longer trusts.
func (d nodeFiles) dropped() string { return d.path("dropped-authorities.json") }

func (d nodeFiles) servers() string { return d.path("servers.json") }

func (d nodeFiles) dns() string { return d.path("cluster-dns") }

func (d nodeFiles) kubeletConfig() string { return d.path("kubelet.yaml") }

// kubeletDropIns is the folder with files that the kubelet merges over its configuration.
func (d nodeFiles) kubeletDropIns() string { return d.path("kubelet.d") }

func (d nodeFiles) proxyConfig() string { return d.path("kube-proxy.yaml") }

// registryHosts is a directory like registrySettings, generated from Config.RegistryConfigs.
func (d nodeFiles) registryHosts() string { return d.path("containerd", "registries.d") }

// addonHosts is a directory like registrySettings. containerd looks there last.
func (d nodeFiles) addonHosts() string { return d.path("containerd", "addons.d") }
