package node

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"everynode/internal/datadir"
)

// SandboxImage is the name that images/pause.tar must give the image that the first container of every pod runs.
const SandboxImage = "everynode.local/pause:1"

// containerdTemplate is the template of containerd's configuration. It disables what a node does not use: containerd
// then starts faster, and leaves no directories behind (opt makes /opt/containerd). NRI, a socket through which
// agents change containers, is on only where the node has a /run of its own.
const containerdTemplate = `version = 3
{{- if .Import}}
imports = [{{q .Import}}]
{{- end}}
root = {{q .Root}}
state = {{q .State}}
disabled_plugins = [
  "io.containerd.differ.v1.erofs",
  "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
{{- if not .NRI}}
  "io.containerd.nri.v1.nri",
{{- end}}
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {{q .Socket}}

[plugins."io.containerd.cri.v1.images"]
  snapshotter = {{q .Snapshotter}}
  # The other way to pull knows one directory of registries only.
  use_local_image_pull = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = {{q .SandboxImage}}
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = {{q .Registries}}
{{.Credentials}}
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = {{.RestrictOOMScoreAdj}}
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{{range $i, $dir := .CNIBinDirs}}{{if $i}}, {{end}}{{q $dir}}{{end}}]
    conf_dir = {{q .CNIConfDir}}
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {{q .Runc}}
        SystemdCgroup = false
`

// containerdConfig renders containerd's configuration file.
func containerdConfig(cfg Config, m machine) ([]byte, error) {
	t, err := template.New("containerd").Funcs(template.FuncMap{"q": strconv.Quote}).Parse(containerdTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse containerd's configuration template: %w", err)
	}
	own := ""
	if len(cfg.containerdFragment) > 0 {
		own = cfg.files().containerdImport()
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Root":                cfg.files().path("containerd", "root"),
		"State":               cfg.files().path("containerd", "state"),
		"Socket":              cfg.files().socket(),
		"Snapshotter":         m.snapshotter,
		"Registries":          strings.Join([]string{registrySettings, cfg.files().registryHosts(), cfg.files().addonHosts()}, string(filepath.ListSeparator)),
		"Credentials":         cfg.registries.credentials(),
		"SandboxImage":        SandboxImage,
		"RestrictOOMScoreAdj": !m.sysResource,
		"CNIBinDirs":          cfg.cniPluginDirs(),
		"CNIConfDir":          cfg.cniConfigDir(),
		"Runc":                m.runc,
		"NRI":                 cfg.Local,
		"Import":              own,
	})
	if err != nil {
		return nil, fmt.Errorf("render containerd's configuration: %w", err)
	}
	return out.Bytes(), nil
}

// containerdProcess is containerd as a child. It finds its shim on PATH.
func containerdProcess(cfg Config) process {
	return process{
		path: filepath.Join(cfg.RuntimeDir, "containerd"),
		args: []string{"--config", cfg.files().containerdConfig()},
		env:  childEnv(cfg.RuntimeDir),
		log:  cfg.files().path("containerd.log"),
		tell: cfg.Log,
	}
}

// childEnv is this process's environment with dir first on PATH, and without three variables. The join token would
// stay in the environment of containers' shims. datadir.PIDVariable is about this process alone. The folder in TMPDIR
// may not live as long as the shims, and without it no command could run in their containers.
func childEnv(dir string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name != "PATH" && name != "EVERYNODE_TOKEN" && name != datadir.PIDVariable && name != "TMPDIR" {
			env = append(env, kv)
		}
	}
	return append(env, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// waitForSocket returns once something accepts connections at path.
func waitForSocket(ctx context.Context, path string) error {
	var dialer net.Dialer
	var last error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err != nil {
			last = err
			return false, nil
		}
		return true, conn.Close()
	})
	if err != nil && last != nil {
		return fmt.Errorf("wait for the container runtime: %w", last)
	}
	return err
}
