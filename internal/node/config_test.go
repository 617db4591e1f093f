package node

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"everynode/internal/node/podnet"
)

// testConfig is a local node with everything set, so that nothing is read from
// the machine the test runs on.
func testConfig() Config {
	return Config{
		Name: "node-1", DataDir: "/data", RuntimeDir: "/opt/runtime", Servers: []string{"https://10.0.0.1:6443"},
		NodeIP: "10.0.0.101", ClusterDNS: "10.96.0.10", CgroupRoot: "/everynode-x/node-1", Local: true,
		Labels: map[string]string{"ssd": "true", "disk": "nvme"},
	}
}

// golden compares with testdata/NAME, which EVERYNODE_UPDATE=1 rewrites.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("EVERYNODE_UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

func TestRenderedConfiguration(t *testing.T) {
	local := testConfig()
	single := testConfig()
	single.Local, single.CgroupRoot, single.Labels, single.ClusterDNS = false, "", nil, ""
	bare := testConfig()
	bare.CNI = podnet.None
	own := testConfig()
	own.containerdFragment = []byte("version = 3\n")
	weak := machine{runc: "/usr/sbin/runc", snapshotter: "overlayfs"}
	full := machine{runc: "/usr/bin/runc", snapshotter: "native", sysResource: true, cgroupV2: true}
	tests := map[string]func() ([]byte, error){
		"containerd-weak.toml":   func() ([]byte, error) { return containerdConfig(local, weak) },
		"containerd-full.toml":   func() ([]byte, error) { return containerdConfig(single, full) },
		"containerd-own.toml":    func() ([]byte, error) { return containerdConfig(own, weak) },
		"kubelet-local.yaml":     func() ([]byte, error) { return kubeletConfiguration(local, weak, "/etc/resolv.conf") },
		"kubelet-machine.yaml":   func() ([]byte, error) { return kubeletConfiguration(single, full, "/etc/resolv.conf") },
		"containerd-no-cni.toml": func() ([]byte, error) { return containerdConfig(bare, weak) },
		"kube-proxy-no-cni.yaml": func() ([]byte, error) { return proxyConfiguration(bare, weak) },
		"kube-proxy.yaml":        func() ([]byte, error) { return proxyConfiguration(local, weak) },
		"kubelet-args-first.txt": func() ([]byte, error) { return lines(kubeletArgs(local, true)), nil },
		"kubelet-args-later.txt": func() ([]byte, error) { return lines(kubeletArgs(single, false)), nil },
	}
	for name, render := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := render()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, got)
		})
	}
}

func lines(args []string) []byte { return []byte(strings.Join(args, "\n") + "\n") }

func TestCompleteConfig(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Config)
		wantErr string // part of the error; "" is success
	}{
		{"as it is", func(*Config) {}, ""},
		{"no server", func(c *Config) { c.Servers = nil }, "--server"},
		{"unknown pod network", func(c *Config) { c.CNI = "cilium" }, "--cni cilium: there is no such pod network"},
		{"no pod network", func(c *Config) { c.CNI = podnet.None }, ""},
		{"plain HTTP", func(c *Config) { c.Servers = []string{"http://10.0.0.1:6443"} }, "https://HOST:PORT"},
		{"no scheme", func(c *Config) { c.Servers = []string{"10.0.0.1:6443"} }, "https://HOST:PORT"},
		{"one bad of two", func(c *Config) { c.Servers = []string{"https://10.0.0.1:6443", "htps://10.0.0.2"} }, `"htps://10.0.0.2"`},
		{"an empty one", func(c *Config) { c.Servers = []string{"https://10.0.0.1:6443", ""} }, "https://HOST:PORT"},
		{"no data directory", func(c *Config) { c.DataDir = "" }, "--data-dir"},
		{"data directory too long", func(c *Config) { c.DataDir = "/" + strings.Repeat("x", 90) }, "too long"},
		{"long data directory, other runtime", func(c *Config) {
			c.DataDir, c.ContainerRuntimeEndpoint = "/"+strings.Repeat("x", 90), "unix:///run/c.sock"
		}, ""},
		{"settings of a containerd that is not ours", func(c *Config) {
			c.ContainerdConfig, c.ContainerRuntimeEndpoint = "containerd.toml", "unix:///run/c.sock"
		}, "--containerd-config is for everynode's own containerd"},
		{"settings of containerd that are not there", func(c *Config) { c.ContainerdConfig = "/nonexistent.toml" }, "read containerd's settings"},
		{"bad name", func(c *Config) { c.Name = "Node_1" }, "--node-name"},
		{"IPv6 address", func(c *Config) { c.NodeIP = "fd00::1" }, "IPv4"},
		{"reserved label", func(c *Config) { c.Labels = map[string]string{"node-role.kubernetes.io/agent": ""} }, "kubectl label node"},
		{"reserved label, short domain", func(c *Config) { c.Labels = map[string]string{"k8s.io/x": "y"} }, "reserved"},
		{"another machine's name", func(c *Config) { c.Labels = map[string]string{"kubernetes.io/hostname": "db-1"} }, "leave it out of --node-labels"},
		{"its own name", func(c *Config) { c.Labels = map[string]string{"kubernetes.io/hostname": c.Name} }, ""},
		{"ill-formed key", func(c *Config) { c.Labels = map[string]string{"a b": "y"} }, "not valid"},
		{"ill-formed value", func(c *Config) { c.Labels = map[string]string{"ssd": "a,b=c"} }, "not valid"},
		{"allowed labels", func(c *Config) {
			c.Labels = map[string]string{"topology.kubernetes.io/zone": "a", "node.kubernetes.io/x": "y", "example.com/ssd": "true"}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			_, err := cfg.complete()
			if tt.wantErr == "" && err != nil {
				t.Errorf("complete: %v", err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error = %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

func TestCompleteConfigDefaults(t *testing.T) {
	cfg := testConfig()
	cfg.Servers, cfg.NodeIP = []string{"https://127.0.0.1", "https://127.0.0.1:6443"}, ""
	got, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.hosts, []string{"127.0.0.1:6443"}) || got.api != "https://127.0.0.1:6443" || got.NodeIP != "127.0.0.1" {
		t.Errorf("servers %s, API at %s, address %s; want port 6443 once, and the loopback address", got.hosts, got.api, got.NodeIP)
	}
}

func TestHasCapability(t *testing.T) {
	const sysResource = 24
	tests := map[string]bool{
		"Name:\tx\nCapEff:\t000001ffffffffff\n": true,
		"Name:\tx\nCapEff:\t000001fffeffffff\n": false,
		"Name:\tx\n":                            false,
		"CapEff:\tnonsense\n":                   false,
	}
	for status, want := range tests {
		if got := hasCapability(status, sysResource); got != want {
			t.Errorf("hasCapability(%q) = %v, want %v", status, got, want)
		}
	}
}

func TestChildEnvKeepsNoTokenAndNoFolder(t *testing.T) {
	t.Setenv("EVERYNODE_TOKEN", "abcdef.0123456789abcdef")
	t.Setenv("TMPDIR", "/tmp/of-a-session")
	t.Setenv("PATH", "/usr/bin")
	env := childEnv("/opt/runtime")
	if joined := strings.Join(env, "\n"); strings.Contains(joined, "0123456789abcdef") || strings.Contains(joined, "of-a-session") || !strings.Contains(joined, "PATH=/opt/runtime:/usr/bin") {
		t.Errorf("environment of children:\n%s", joined)
	}
}

func TestLockDataDir(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "another agent (process ") {
		t.Errorf("second lock: %v, want an error that names the holder", err)
	}
	if err := first(); err != nil {
		t.Fatal(err)
	}
	again, err := lockDataDir(dir)
	if err != nil {
		t.Fatalf("lock after the holder is gone: %v", err)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
}

func TestPrepareCgroupV1(t *testing.T) {
	mount := t.TempDir()
	for _, h := range []string{"cpuset", "memory", "unified"} {
		if err := os.Mkdir(filepath.Join(mount, h), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("memory", filepath.Join(mount, "mem")); err != nil {
		t.Fatal(err)
	}
	// The kernel makes these files with the directory; here they are made first.
	cpuset := filepath.Join(mount, "cpuset")
	for _, dir := range []string{"", "/x", "/x/node-1"} {
		if err := os.MkdirAll(cpuset+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, value := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
			if dir != "" {
				value = "\n"
			}
			if err := os.WriteFile(cpuset+dir+"/"+file, []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // the second time changes nothing
		if err := prepareCgroup(mount, "/x/node-1", false); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		if got, err := os.ReadFile(cpuset + "/x/node-1/" + file); err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s = %q (%v), want %q", file, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(mount, "memory/x/node-1")); err != nil {
		t.Errorf("no cgroup in the memory hierarchy: %v", err)
	}
	if _, err := os.Stat(filepath.Join(mount, "unified/x")); err == nil {
		t.Error("a cgroup in the unified hierarchy beside v1")
	}
}

func TestCheckControllers(t *testing.T) {
	mount := t.TempDir()
	if err := os.WriteFile(filepath.Join(mount, "cgroup.controllers"), []byte("cpuset cpu io pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkControllers(mount, true); err == nil || !strings.Contains(err.Error(), "no cgroup controller memory ") {
		t.Errorf("v2 without memory: %v", err)
	}
	if err := checkControllers(mount, false); err == nil || !strings.Contains(err.Error(), "cpu, cpuset, memory, pids") {
		t.Errorf("v1 without anything: %v", err)
	}
}
