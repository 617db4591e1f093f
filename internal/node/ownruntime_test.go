package node

import (
	"os"
	"strings"
	"testing"
)

func TestContainerdSettings(t *testing.T) {
	const (
		head    = "version = 3\n"
		images  = "[plugins.'io.containerd.cri.v1.images']\n"
		runtime = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n"
		options = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\nBinaryName = '/usr/bin/nvidia-container-runtime'\n"
		byName  = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n"
	)
	tests := []struct{ name, text, wantErr string }{
		{"a runtime", head + runtime + options, ""},
		{"which is the default", head + byName + "default_runtime_name = 'nvidia'\n" + runtime, ""},
		{"the default by name", head + byName + "default_runtime_name = 'runc'\n", ""},
		{"a snapshotter", head + "[proxy_plugins.stargz]\ntype = 'snapshot'\naddress = '/run/stargz.sock'\n", ""},
		{"a default that is not there", head + byName + "default_runtime_name = 'kata'\n", "default_runtime_name is kata, which is none of the runtimes"},
		{"no version", runtime, "version is <nil>: give version = 3"},
		{"an older version", "version = 2\n", "version is 2: give version = 3"},
		{"no TOML", head + "[plugins\n", "line 2, column "},
		{"a key twice", head + head, "line 2, column "},
		{"another root", "root = '/srv'\n" + head, "only the agent may set root: known are version, debug"},
		{"another state", "state = '/srv'\n" + head, "only the agent may set state"},
		{"more files", "imports = ['/etc/containerd/conf.d/*.toml']\n" + head, "only the agent may set imports"},
		{"another address", head + "[grpc]\naddress = '/run/c.sock'\n", "only the agent may set grpc"},
		{"another address, as version 4 has it", head + "[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/c.sock'\n", "set plugins.'io.containerd.server.v1.grpc': the kubelet expects"},
		{"another snapshotter for all", head + images + "snapshotter = 'zfs'\n", "set plugins.'io.containerd.cri.v1.images'.snapshotter: it follows"},
		{"another sandbox image", head + images + "pinned_images = {sandbox = 'pause:3'}\n", ".pinned_images: the node has this image"},
		{"registries", head + "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/certs'\n", ".registry: give --registry-config"},
		{"another folder of plugins", head + "[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = '/etc'\n", ".cni: give --cni none"},
		{"another runc", head + strings.ReplaceAll(runtime, "nvidia", "runc"), ".containerd.runtimes.runc: give another runtime another name"},
		{"systemd's cgroups", head + runtime + options + "SystemdCgroup = true\n", "runtime nvidia has SystemdCgroup = true, but the kubelet uses cgroupfs"},
		{"where version 2 has runtimes", head + "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.nvidia]\n", "containerd ignores this place in version 3: use plugins.'io.containerd.cri.v1.runtime'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkContainerdSettings([]byte(tt.text))
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error = %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

// Settings reach containerd as a copy that its configuration imports, which is removed with the flag.
func TestContainerdImport(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), containerdFragment: []byte("version = 3\n")}
	file := cfg.files().containerdImport()
	if err := cfg.writeContainerdImport(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "version = 3\n" {
		t.Errorf("%s has %q, %v", file, raw, err)
	}
	cfg.containerdFragment = nil
	for range 2 {
		if err := cfg.writeContainerdImport(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the settings of an earlier start are still there")
	}
}
