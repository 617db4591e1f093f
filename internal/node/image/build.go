package image

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"everynode/internal/atomicfile"
)

// Annotations of an archive's index that importers take the image's name from: the first is
// containerd's, the second the OCI image layout's.
const (
	containerdNameAnnotation = "io.containerd.image.name"
	ociNameAnnotation        = "org.opencontainers.image.ref.name"
)

// BuildOptions says what [Build] puts together.
type BuildOptions struct {
	Dir        string   // root file system of the image
	Name       string   // such as "busybox:1.36"; a name without a tag means latest
	Entrypoint []string // what a container runs unless its pod says otherwise
	Cmd        []string // arguments of Entrypoint, or the command when there is none
	Env        []string // NAME=VALUE
	Labels     []string // NAME=VALUE
	WorkingDir string   // absolute; "" is the root
	User       string   // "UID", "UID:GID" or names that the image's /etc/passwd knows; "" is root
	Output     string   // archive to write: an OCI image layout in one tar file

	// Architecture of the programs in Dir, as Go names it; "" is this machine's.
	Architecture string

	// Compression of the layer: Gzip, which every program reads, or Zstd, which a
	// node unpacks in a fifth of the time. "" is Gzip.
	Compression Compression
}

// Compression is how a layer is compressed.
type Compression string

// What a layer may be compressed with.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Compressions are the values of Compression.
func Compressions() []string { return []string{string(Gzip), string(Zstd)} }

// Build makes an OCI archive of a directory, without a container engine. The image has one
// layer and depends on nothing but the options and the names, contents,
// permissions and link targets below Dir: owners become root, times the epoch, hard links files,
// and extended attributes are left out. So the same input gives the same bytes. The archive appears
// under its name only when it is complete, and replaces one that is there.
func Build(opts BuildOptions) (err error) {
	name, err := checkBuild(opts)
	if err != nil {
		return fmt.Errorf("image not built: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(opts.Output), ".image-build-")
	if err != nil {
		return fmt.Errorf("image not built: cannot create the archive: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	layer := filepath.Join(scratch, "layer")
	if err := packFile(layer, func(w io.Writer) error { return packLayer(w, opts.Dir, opts.Compression) }); err != nil {
		return fmt.Errorf("image %s not built from %s: %w", name, opts.Dir, err)
	}
	image, err := imageOf(layer, opts)
	if err != nil {
		return fmt.Errorf("image %s not built: %w", name, err)
	}
	if err := packArchive(scratch, opts.Output, image, name); err != nil {
		return fmt.Errorf("image %s not written: %w", name, err)
	}
	return nil
}

// checkBuild checks what can be checked before any work and returns the image's full name, such as
// docker.io/library/busybox:1.36.
func checkBuild(opts BuildOptions) (string, error) {
	named, err := reference.ParseNormalizedNamed(opts.Name)
	if err != nil {
		return "", fmt.Errorf("bad image name %q: %w; a good one is busybox:1.36", opts.Name, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", fmt.Errorf("bad image name %q: the digest follows from the content; give a tag", opts.Name)
	}
	if opts.Output == "" {
		return "", errors.New("no output file given")
	}
	if c := opts.Compression; c != "" && !slices.Contains(Compressions(), string(c)) {
		return "", fmt.Errorf("bad compression %q: a layer is compressed with %s", c, strings.Join(Compressions(), " or "))
	}
	for what, pairs := range map[string][]string{"environment variable": opts.Env, "label": opts.Labels} {
		for _, pair := range pairs {
			if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
				return "", fmt.Errorf("bad %s %q: give NAME=VALUE", what, pair)
			}
		}
	}
	if opts.WorkingDir != "" && !path.IsAbs(opts.WorkingDir) {
		return "", fmt.Errorf("bad working directory %q: give an absolute path", opts.WorkingDir)
	}
	if err := checkRoot(opts.Dir, opts.Output); err != nil {
		return "", err
	}
	return reference.TagNameOnly(named).String(), nil
}

// checkRoot makes sure that dir is a directory with content and that output does not lie in it.
func checkRoot(dir, output string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if len(entries) == 0 {
		return fmt.Errorf("root file system %s is empty", dir)
	}
	root, err := realPath(dir)
	if err != nil {
		return err
	}
	folder, err := realPath(filepath.Dir(output))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it cannot be in a directory that exists
	}
	if err != nil {
		return err
	}
	target := filepath.Join(folder, filepath.Base(output))
	if strings.HasPrefix(target, strings.TrimSuffix(root, "/")+"/") {
		return fmt.Errorf("output %s is inside the root file system %s: the archive would contain itself", output, dir)
	}
	return nil
}

// realPath returns name as an absolute path without symbolic links.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// imageOf wraps a layer file in an image with the configuration of opts.
func imageOf(layerFile string, opts BuildOptions) (v1.Image, error) {
	kind := types.OCILayer
	if opts.Compression == Zstd {
		kind = types.OCILayerZStd
	}
	layer, err := tarball.LayerFromFile(layerFile, tarball.WithMediaType(kind))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := v1.Time{Time: time.Unix(0, 0).UTC()}
	image, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "everynode image build"},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", cmp.Or(opts.Architecture, runtime.GOARCH), created
	config.Config = v1.Config{
		Entrypoint: opts.Entrypoint,
		Cmd:        opts.Cmd,
		Env:        opts.Env,
		WorkingDir: opts.WorkingDir,
		User:       opts.User,
		Labels:     labelMap(opts.Labels),
	}
	return mutate.ConfigFile(image, config)
}

// labelMap makes a map of NAME=VALUE pairs, which were checked before; nil if there are none.
func labelMap(pairs []string) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	labels := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		labels[name] = value
	}
	return labels
}

// packArchive lays image out below scratch, packs the layout and moves it to output. scratch has to
// be in output's directory.
func packArchive(scratch, output string, image v1.Image, name string) error {
	dir := filepath.Join(scratch, "layout")
	index, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{containerdNameAnnotation: name, ociNameAnnotation: name})
	if err := index.AppendImage(image, named); err != nil {
		return err
	}
	archive := filepath.Join(scratch, "archive.tar")
	if err := packFile(archive, func(w io.Writer) error { return packTree(w, dir) }); err != nil {
		return err
	}
	if err := os.Rename(archive, output); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(output))
}

// packFile creates a file, has write fill it and syncs it.
func packFile(name string, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := write(file); err != nil {
		return err
	}
	return file.Sync()
}

// packLayer writes dir as a compressed layer.
func packLayer(w io.Writer, dir string, how Compression) error {
	var compressed io.WriteCloser = gzip.NewWriter(w)
	if how == Zstd {
		encoder, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
		if err != nil {
			return err
		}
		compressed = encoder
	}
	if err := packTree(compressed, dir); err != nil {
		return err
	}
	return compressed.Close()
}

// packTree writes what is below dir as a tar stream, in the order of the names.
func packTree(w io.Writer, dir string) error {
	dir, err := filepath.EvalSymlinks(dir) // a walk does not follow its root
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	err = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return packEntry(archive, file, inside, entry)
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

// packEntry writes one file, directory or symbolic link. Anything else has no business in an image.
func packEntry(archive *tar.Writer, file, inside string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode().IsRegular(), info.IsDir():
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file nor a directory nor a symbolic link (%v): remove it", file, info.Mode().Type())
	}
	header, err := tar.FileInfoHeader(bareInfo{info}, target)
	if err != nil {
		return err
	}
	header.Name = filepath.ToSlash(inside)
	if info.IsDir() {
		header.Name += "/"
	}
	header.ModTime = time.Unix(0, 0)
	// All files become root's: a bit that lent a user's rights would lend root's.
	const setuid, setgid = 0o4000, 0o2000
	header.Mode &^= setuid | setgid
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err := io.Copy(archive, content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// bareInfo hides what the system knows about a file beyond its name, size and mode, so that owners and
// access times of the machine that builds an image stay out of it.
type bareInfo struct{ fs.FileInfo }

// Sys returns nothing, for the reason above.
func (bareInfo) Sys() any { return nil }
