package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// imageRoot makes a small root file system and returns its directory.
func imageRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"bin", "tmp", "etc"} {
		noError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	noError(t, os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky))
	noError(t, os.WriteFile(filepath.Join(root, "bin/busybox"), []byte("#!program"), 0o755))
	noError(t, os.WriteFile(filepath.Join(root, "etc/secret"), []byte("quiet"), 0o600))
	noError(t, os.Symlink("busybox", filepath.Join(root, "bin/sh")))
	noError(t, os.Symlink("/nowhere/at/all", filepath.Join(root, "etc/dangling")))
	noError(t, os.Link(filepath.Join(root, "bin/busybox"), filepath.Join(root, "bin/hard")))
	return root
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpackArchive reads an archive back as an image layout and returns its index.
func unpackArchive(t *testing.T, archive string) (v1.ImageIndex, v1.Image) {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Open(archive)
	noError(t, err)
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		noError(t, err)
		target := filepath.Join(dir, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			noError(t, os.MkdirAll(target, 0o755))
			continue
		}
		content, err := io.ReadAll(reader)
		noError(t, err)
		noError(t, os.WriteFile(target, content, 0o644))
	}
	index, err := layout.ImageIndexFromPath(dir)
	noError(t, err)
	manifest, err := index.IndexManifest()
	noError(t, err)
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d images in the archive, want 1", len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	noError(t, err)
	return index, image
}

func TestBuildReadsBack(t *testing.T) {
	output := filepath.Join(t.TempDir(), "busybox.tar")
	noError(t, Build(BuildOptions{
		Dir: imageRoot(t), Name: "busybox:1.36", Output: output,
		Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"true"}, Env: []string{"PATH=/bin"},
		WorkingDir: "/tmp", User: "65534:65534", Labels: []string{"version=1", "of=a=b"},
	}))
	index, image := unpackArchive(t, output)
	noError(t, validate.Index(index))
	noError(t, validate.Image(image))

	manifest, err := index.IndexManifest()
	noError(t, err)
	const full = "docker.io/library/busybox:1.36"
	want := map[string]string{"io.containerd.image.name": full, "org.opencontainers.image.ref.name": full}
	if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if got := manifest.Manifests[0].MediaType; got != types.OCIManifestSchema1 {
		t.Errorf("manifest is a %s", got)
	}
	config, err := image.ConfigFile()
	noError(t, err)
	if config.OS != "linux" || config.Architecture == "" {
		t.Errorf("platform %q/%q", config.OS, config.Architecture)
	}
	wantConfig := v1.Config{
		Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"true"}, Env: []string{"PATH=/bin"},
		WorkingDir: "/tmp", User: "65534:65534", Labels: map[string]string{"version": "1", "of": "a=b"},
	}
	if diff := cmp.Diff(wantConfig, config.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestBuildArchitecture(t *testing.T) {
	for given, want := range map[string]string{"": runtime.GOARCH, "riscv64": "riscv64"} {
		output := filepath.Join(t.TempDir(), "image.tar")
		noError(t, Build(BuildOptions{Dir: imageRoot(t), Name: "x", Output: output, Architecture: given}))
		_, image := unpackArchive(t, output)
		config, err := image.ConfigFile()
		noError(t, err)
		if config.Architecture != want {
			t.Errorf("%q: the image is for %q, want %q", given, config.Architecture, want)
		}
	}
}

func TestBuildLayer(t *testing.T) {
	for _, compression := range []Compression{"", Gzip, Zstd} {
		t.Run(string(compression), func(t *testing.T) { checkLayer(t, compression) })
	}
}

func checkLayer(t *testing.T, compression Compression) {
	output := filepath.Join(t.TempDir(), "image.tar")
	noError(t, Build(BuildOptions{Dir: imageRoot(t), Name: "x", Output: output, Compression: compression}))
	_, image := unpackArchive(t, output)
	layers, err := image.Layers()
	noError(t, err)
	if len(layers) != 1 {
		t.Fatalf("%d layers, want 1", len(layers))
	}
	kind, err := layers[0].MediaType()
	noError(t, err)
	if want := map[Compression]types.MediaType{Zstd: types.OCILayerZStd}[compression]; want != "" && kind != want {
		t.Errorf("the layer is a %s, want %s", kind, want)
	}
	content, err := layers[0].Uncompressed()
	noError(t, err)
	defer content.Close()
	type entry struct {
		Name, Link string
		Type       byte
		Mode, Size int64
	}
	var got []entry
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		noError(t, err)
		if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s carries traces of this machine: %+v", header.Name, header)
		}
		got = append(got, entry{header.Name, header.Linkname, header.Typeflag, header.Mode, header.Size})
	}
	want := []entry{
		{"bin/", "", tar.TypeDir, 0o755, 0},
		{"bin/busybox", "", tar.TypeReg, 0o755, 9},
		{"bin/hard", "", tar.TypeReg, 0o755, 9},
		{"bin/sh", "busybox", tar.TypeSymlink, 0o777, 0},
		{"etc/", "", tar.TypeDir, 0o755, 0},
		{"etc/dangling", "/nowhere/at/all", tar.TypeSymlink, 0o777, 0},
		{"etc/secret", "", tar.TypeReg, 0o600, 5},
		{"tmp/", "", tar.TypeDir, 0o1777, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	for _, compression := range []Compression{Gzip, Zstd} {
		t.Run(string(compression), func(t *testing.T) { checkReproducible(t, compression) })
	}
}

func checkReproducible(t *testing.T, compression Compression) {
	dir := t.TempDir()
	var archives [][]byte
	for i, name := range []string{"one.tar", "two.tar"} {
		root := imageRoot(t) // made again: other inodes, other times
		noError(t, os.Chtimes(filepath.Join(root, "bin"), time.Now(), time.Now().Add(time.Duration(i)*time.Hour)))
		if os.Geteuid() == 0 {
			noError(t, os.Chown(filepath.Join(root, "etc/secret"), 1000+i, 1000+i))
		}
		output := filepath.Join(dir, name)
		noError(t, Build(BuildOptions{Dir: root, Name: "x:1", Output: output, Compression: compression}))
		content, err := os.ReadFile(output)
		noError(t, err)
		archives = append(archives, content)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same content gave two different archives")
	}
}

func TestBuildNames(t *testing.T) {
	root := imageRoot(t)
	for given, want := range map[string]string{
		"busybox":                         "docker.io/library/busybox:latest",
		"grafana/agent:2":                 "docker.io/grafana/agent:2",
		"everynode.local/ssd-cache-api:1": "everynode.local/ssd-cache-api:1",
		"localhost:5000/x:y":              "localhost:5000/x:y",
	} {
		output := filepath.Join(t.TempDir(), "image.tar")
		noError(t, Build(BuildOptions{Dir: root, Name: given, Output: output}))
		index, _ := unpackArchive(t, output)
		manifest, err := index.IndexManifest()
		noError(t, err)
		if got := manifest.Manifests[0].Annotations["io.containerd.image.name"]; got != want {
			t.Errorf("%s is named %s, want %s", given, got, want)
		}
	}
}

func TestBuildReplacesWhole(t *testing.T) {
	root, output := imageRoot(t), filepath.Join(t.TempDir(), "image.tar")
	noError(t, os.WriteFile(output, []byte("old"), 0o644))
	noError(t, syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600))
	if err := Build(BuildOptions{Dir: root, Name: "x:1", Output: output}); err == nil {
		t.Fatal("a named pipe got into an image")
	}
	old, err := os.ReadFile(output)
	noError(t, err)
	if string(old) != "old" {
		t.Error("a failed build touched the archive that was there")
	}
	noError(t, os.Remove(filepath.Join(root, "pipe")))
	noError(t, Build(BuildOptions{Dir: root, Name: "x:1", Output: output}))
	unpackArchive(t, output)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(output), ".image-build-*"))
	noError(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBuildRefuses(t *testing.T) {
	root, empty := imageRoot(t), t.TempDir()
	file := filepath.Join(root, "etc/secret")
	good := BuildOptions{Dir: root, Name: "x:1", Output: filepath.Join(t.TempDir(), "image.tar")}
	for _, tc := range []struct {
		name   string
		change func(*BuildOptions)
		want   []string
	}{
		{"no directory", func(o *BuildOptions) { o.Dir = filepath.Join(root, "gone") }, []string{"root file system", "no such file"}},
		{"a file", func(o *BuildOptions) { o.Dir = file }, []string{"root file system", "not a directory"}},
		{"empty directory", func(o *BuildOptions) { o.Dir = empty }, []string{"is empty"}},
		{"no name", func(o *BuildOptions) { o.Name = "" }, []string{"bad image name", "busybox:1.36"}},
		{"capital letters", func(o *BuildOptions) { o.Name = "BusyBox:1" }, []string{"bad image name", "lowercase"}},
		{"digest", func(o *BuildOptions) { o.Name = "x@sha256:" + strings.Repeat("a", 64) }, []string{"give a tag"}},
		{"no output", func(o *BuildOptions) { o.Output = "" }, []string{"no output"}},
		{"output in no directory", func(o *BuildOptions) { o.Output = filepath.Join(empty, "a/b.tar") }, []string{"cannot create the archive", "no such file"}},
		{"output inside", func(o *BuildOptions) { o.Output = filepath.Join(root, "image.tar") }, []string{"is inside"}},
		{"bad environment", func(o *BuildOptions) { o.Env = []string{"PATH"} }, []string{"NAME=VALUE"}},
		{"unknown compression", func(o *BuildOptions) { o.Compression = "xz" }, []string{"gzip or zstd"}},
		{"relative working directory", func(o *BuildOptions) { o.WorkingDir = "tmp" }, []string{"absolute"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := good
			tc.change(&opts)
			err := Build(opts)
			if err == nil {
				t.Fatal("no error")
			}
			missing := func(part string) bool { return !strings.Contains(err.Error(), part) }
			if slices.ContainsFunc(tc.want, missing) {
				t.Errorf("error %q, want it to tell %q", err, tc.want)
			}
		})
	}
	if _, err := os.Stat(good.Output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an archive was written all the same: %v", err)
	}
}

// A folder can be named by a link, and no file of a user becomes one that gives its
// caller the rights of root.
func TestPackLayer(t *testing.T) {
	dir := t.TempDir()
	root, link := filepath.Join(dir, "rootfs"), filepath.Join(dir, "link")
	agent := filepath.Join(root, "agent")
	err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(agent, []byte("x"), 0o755), os.Chmod(agent, 0o755|os.ModeSetuid|os.ModeSetgid), os.Symlink(root, link))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{root, link} {
		var packed bytes.Buffer
		if err := packTree(&packed, from); err != nil {
			t.Fatal(err)
		}
		header, err := tar.NewReader(&packed).Next()
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		if header.Name != "agent" || header.Mode != 0o755 {
			t.Errorf("%s: %s has the mode %o", from, header.Name, header.Mode)
		}
	}
	if err := checkRoot(link, filepath.Join(root, "out.tar")); err == nil {
		t.Error("an output inside the root file system was let pass, because that is named by a link")
	}
}
