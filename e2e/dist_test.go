package e2e_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

// dist is where make dist puts what users download, relative to this package.
var dist = filepath.Join("..", "bin", "dist")

// TestDist checks what make dist has made: checksums, SBOMs, the manifest of krew, and the contents of the
// archives.
func TestDist(t *testing.T) {
	if os.Getenv("EVERYNODE_LONG") == "" {
		t.Skip("it needs what make dist makes: EVERYNODE_LONG=1")
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	sums.Dir = dist
	if out, err := sums.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\nmake dist ARCH=%s PLUGINS= makes it", err, out, runtime.GOARCH)
	}
	text, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found(t, "*") {
		if name := filepath.Base(file); name != "SHA256SUMS" && !strings.Contains(string(text), "  "+name+"\n") {
			t.Errorf("SHA256SUMS does not have %s", name)
		}
	}
	sbomsAreWhole(t)
	krewFindsAll(t)

	manual := []string{"share/man/man1/everynode-up.1.gz", "share/bash-completion/completions/everynode", "share/zsh/site-functions/_everynode", "share/fish/vendor_completions.d/everynode.fish"}
	archiveHas(t, "everynode_linux_"+runtime.GOARCH+".tar.gz", append(manual, "everynode", "kubectl", "runtime/containerd", "LICENSE", "copyright",
		"systemd/everynode-server.service", "systemd/everynode-server.default", "systemd/everynode-agent.service", "systemd/everynode-agent.default", "examples/node-audit-daemonset.yaml")...)
	archiveHas(t, "kubectl-everynode_linux_"+runtime.GOARCH+".tar.gz", "kubectl-everynode", "LICENSE", "copyright", "share/man/man1/kubectl-everynode-why.1.gz",
		"share/bash-completion/completions/everynode-ctl", "share/zsh/site-functions/_everynode-ctl", "share/fish/vendor_completions.d/everynode-ctl.fish")
	charts := found(t, "everynode-controller-*.tgz")
	if len(charts) != 1 {
		t.Fatalf("charts: %q", charts)
	}
	if objectsOf(t, filepath.Join(builtPrograms(t), "tools", "helm"), "template", "everynode-controller", charts[0])["Deployment default/everynode-controller"] == nil {
		t.Errorf("%s is not the chart", charts[0])
	}
}

// found returns the files in bin/dist that match a pattern.
func found(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dist, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s in bin/dist: %q, %v", pattern, files, err)
	}
	return files
}

// sbomsAreWhole checks that each SBOM names modules.
func sbomsAreWhole(t *testing.T) {
	t.Helper()
	for _, file := range found(t, "*.cdx.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			Format     string `json:"bomFormat"`
			Components []struct {
				Name, Version, Purl string
			}
		}
		if err := json.Unmarshal(text, &bom); err != nil || bom.Format != "CycloneDX" || len(bom.Components) == 0 || bom.Components[0].Purl == "" {
			t.Errorf("%s: %v, format %q, %d modules", file, err, bom.Format, len(bom.Components))
		}
	}
}

// krewFindsAll checks that the manifest has a version that krew accepts and the checksums of the archives, and
// that it names what is in them.
func krewFindsAll(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dist, "everynode.krew.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Spec             struct {
			Version, ShortDescription, Description string
			Platforms                              []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
				Files            []struct{ From, To string }
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &manifest); err != nil {
		t.Fatalf("everynode.krew.yaml: %v", err)
	}
	spec := &manifest.Spec
	if _, err := version.ParseSemantic(spec.Version); err != nil || !strings.HasPrefix(spec.Version, "v") {
		t.Errorf("the version is %q, which krew does not take: %v", spec.Version, err)
	}
	if manifest.Kind != "Plugin" || manifest.Metadata.Name != "everynode" || spec.ShortDescription == "" || len(spec.Platforms) == 0 {
		t.Errorf("everynode.krew.yaml: %+v", manifest)
	}
	for _, p := range spec.Platforms {
		archive := filepath.Base(p.URI)
		packed, err := os.ReadFile(filepath.Join(dist, archive))
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(packed)); sum != p.SHA256 {
			t.Errorf("%s has the sum %s, the manifest says %s", archive, sum, p.SHA256)
		}
		there := filesIn(t, archive)
		installs := map[string]bool{}
		for _, f := range p.Files {
			installs[filepath.Base(f.From)] = there[f.From]
			if !there[f.From] {
				t.Errorf("%s has no %s, which krew takes from it", archive, f.From)
			}
		}
		if !installs[p.Bin] {
			t.Errorf("for %v krew is to run %s, and does not install it", p.Selector.MatchLabels, p.Bin)
		}
	}
}

// archiveHas checks that everything is in one folder that is named after the archive.
func archiveHas(t *testing.T, archive string, names ...string) {
	t.Helper()
	there := filesIn(t, archive)
	for _, name := range names {
		if path := strings.TrimSuffix(archive, ".tar.gz") + "/" + name; !there[path] {
			t.Errorf("%s has no %s", archive, path)
		}
	}
}

// filesIn returns the names in an archive.
func filesIn(t *testing.T, archive string) map[string]bool {
	t.Helper()
	file, err := os.Open(filepath.Join(dist, archive))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	names, entries := map[string]bool{}, tar.NewReader(unzipped)
	for {
		switch header, err := entries.Next(); {
		case errors.Is(err, io.EOF):
			return names
		case err != nil:
			t.Fatalf("%s: %v", archive, err)
		default:
			names[header.Name] = true
		}
	}
}
