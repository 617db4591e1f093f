// Package image packs folders into image archives, loads archives into a node's containerd, and
// pushes them to a registry.
package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// Namespace is where the CRI part of containerd keeps its images.
	Namespace = "k8s.io"
	// pinnedLabel protects an image from image GC: what was loaded from a file
	// cannot be pulled again.
	pinnedLabel, pinnedValue = "io.cri-containerd.pinned", "pinned"
	// maxIndex bounds the index of an archive, in bytes.
	maxIndex = 8 << 20
	// connectTimeout is how long containerd's socket may take to answer.
	connectTimeout = 10 * time.Second
	// visibleWithin is how long the CRI may take to notice what was loaded.
	visibleWithin = 10 * time.Second
)

// Import loads the images of an archive, an OCI layout or what `docker save`
// writes, plain or compressed, into the containerd at socket, for Kubernetes,
// unpacked and pinned. It returns their full names, such as
// docker.io/library/busybox:1.36. If it fails before the images have names, it
// leaves nothing behind.
func Import(ctx context.Context, socket, file string) (names []string, err error) {
	client, err := Connect(socket)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return ImportFile(ctx, client, file)
}

// Connect connects to the containerd at socket, in the namespace that Kubernetes
// uses.
func Connect(socket string) (*containerd.Client, error) {
	client, err := containerd.New(socket, containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(connectTimeout))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w; is the node running?", socket, err)
	}
	return client, nil
}

// ImportFile is [Import] over an existing connection.
func ImportFile(ctx context.Context, client *containerd.Client, file string) ([]string, error) {
	ctx = namespaces.WithNamespace(ctx, Namespace)
	ctx = log.WithLogger(ctx, logrus.NewEntry(silent()))
	contents, err := inspect(file)
	if err != nil {
		return nil, err
	}
	if names, ok := alreadyThere(ctx, client, contents); ok {
		return names, nil
	}
	f, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// When the lease ends, containerd removes what has no name.
	ctx, release, err := client.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("keep images from being collected in containerd: %w", err)
	}
	loaded, err := unpack(ctx, client, f)
	if err == nil {
		err = record(ctx, client.ImageService(), loaded)
	}
	if rerr := release(context.WithoutCancel(ctx)); err == nil {
		err = rerr
	}
	if err != nil {
		return nil, fmt.Errorf("image archive %s cannot be loaded: %w", file, err)
	}
	var names []string
	for _, img := range loaded {
		names = append(names, img.Name)
	}
	return names, waitVisible(ctx, client, names)
}

// silent is a logger for containerd's client, which would otherwise also write to
// stderr what its errors say.
func silent() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// unpack loads the images of an archive into containerd, ready to run, but not yet
// under a name: nobody sees them before record.
func unpack(ctx context.Context, client *containerd.Client, r io.Reader) ([]images.Image, error) {
	store := client.ContentStore()
	root, err := archive.ImportIndex(ctx, store, r)
	if err != nil {
		return nil, err
	}
	data, err := content.ReadBlob(ctx, store, root)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	keep := images.SetChildrenLabels(store, images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default()))
	var loaded []images.Image
	for _, m := range index.Manifests {
		name := nameOf(m)
		if name == "" {
			continue
		}
		img := images.Image{Name: name, Target: m, Labels: map[string]string{pinnedLabel: pinnedValue}}
		if err := images.WalkNotEmpty(ctx, keep, m); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		// Unpack would not notice that the archive lacks a layer if another image
		// has brought that layer already.
		_, _, _, missing, err := images.Check(ctx, store, m, platforms.Default())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(missing) > 0 {
			return nil, fmt.Errorf("%s: the archive lacks %d of its parts, the first is %s", name, len(missing), missing[0].Digest)
		}
		if err := containerd.NewImage(client, img).Unpack(ctx, ""); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
		loaded = append(loaded, img)
	}
	return loaded, nil
}

// record gives images their names, so that containerd keeps them. A name that
// exists moves to the new image.
func record(ctx context.Context, store images.Store, loaded []images.Image) error {
	for _, img := range loaded {
		_, err := store.Create(ctx, img)
		if errdefs.IsAlreadyExists(err) {
			_, err = store.Update(ctx, img, "target", "labels")
		}
		if err != nil {
			return fmt.Errorf("name the image %s: %w", img.Name, err)
		}
	}
	return nil
}

// waitVisible returns once the CRI part of containerd shows the images. It learns
// of them through events, and a pod that starts before that would try to pull.
func waitVisible(ctx context.Context, client *containerd.Client, names []string) error {
	conn, ok := client.Conn().(grpc.ClientConnInterface)
	if !ok {
		return fmt.Errorf("the connection to containerd is a %T, which does not support CRI", client.Conn())
	}
	cri := runtimeapi.NewImageServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, visibleWithin)
	defer cancel()
	for _, name := range names {
		img, err := client.GetImage(ctx, name)
		if err != nil {
			return fmt.Errorf("look for the image %s: %w", name, err)
		}
		config, err := img.Config(ctx)
		if err != nil {
			return fmt.Errorf("read the configuration of the image %s: %w", name, err)
		}
		err = wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			status, err := cri.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
			return err == nil && status.Image != nil && status.Image.Id == config.Digest.String(), nil
		})
		if err != nil {
			return fmt.Errorf("the image %s is loaded, but containerd does not offer it to pods: %w; see containerd.log", name, err)
		}
	}
	return nil
}

// nameOf is the full name that an archive gives an image; "" if it gives none.
func nameOf(m ocispec.Descriptor) string {
	name := m.Annotations[images.AnnotationImageName]
	if name == "" {
		name = m.Annotations[ocispec.AnnotationRefName]
	}
	return normalizeName(name)
}

// normalizeName returns a name as the CRI knows it, with registry and tag. What is
// not a name stays as it is.
func normalizeName(name string) string {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return name
	}
	return ref.String()
}

// archived is one image of an archive.
type archived struct {
	name   string
	digest digest.Digest // of the manifest or index; empty for docker archives, which have none
}

// inspect lists the images in an archive. Its error says why the file is not an
// archive.
func inspect(file string) ([]archived, error) {
	f, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	notArchive := func(why error) error {
		return fmt.Errorf("%s is not an image archive: %w; give an OCI archive or what `docker save` writes", file, why)
	}
	var contents []archived
	found := false
	for tr := tar.NewReader(f); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, notArchive(err)
		}
		var list []archived
		switch path.Clean(header.Name) {
		case ocispec.ImageIndexFile:
			list, err = readIndex(tr)
		case "manifest.json":
			list, err = readDockerManifest(tr)
		default:
			continue
		}
		if err != nil {
			return nil, notArchive(fmt.Errorf("read %s: %w", header.Name, err))
		}
		// An archive may have both files; the index is the one with digests.
		if !found || path.Clean(header.Name) == ocispec.ImageIndexFile {
			contents = list
		}
		found = true
	}
	if !found {
		return nil, notArchive(errors.New("it holds neither index.json nor manifest.json"))
	}
	if len(contents) == 0 {
		return nil, fmt.Errorf("image archive %s names no image, so no pod could use it: create it again with a name and tag, such as busybox:1.36", file)
	}
	return contents, nil
}

// readCloser reads a decompressed archive, and closes the file below it.
type readCloser struct {
	io.Reader
	closers []io.Closer
}

func (r readCloser) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func openArchive(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the image archive: %w", err)
	}
	plain, err := compression.DecompressStream(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not an image archive: %w; give an OCI archive or what `docker save` writes", file, err), f.Close())
	}
	return readCloser{Reader: plain, closers: []io.Closer{plain, f}}, nil
}

func readIndex(r io.Reader) ([]archived, error) {
	var index ocispec.Index
	if err := json.NewDecoder(io.LimitReader(r, maxIndex)).Decode(&index); err != nil {
		return nil, err
	}
	var list []archived
	for _, m := range index.Manifests {
		if name := nameOf(m); name != "" {
			list = append(list, archived{name: name, digest: m.Digest})
		}
	}
	return list, nil
}

func readDockerManifest(r io.Reader) ([]archived, error) {
	var manifests []struct{ RepoTags []string }
	if err := json.NewDecoder(io.LimitReader(r, maxIndex)).Decode(&manifests); err != nil {
		return nil, err
	}
	var list []archived
	for _, m := range manifests {
		for _, tag := range m.RepoTags {
			list = append(list, archived{name: normalizeName(tag)})
		}
	}
	return list, nil
}

// alreadyThere reports whether all images of an archive are loaded, with the same
// digests, pinned and unpacked, and returns their names.
func alreadyThere(ctx context.Context, client *containerd.Client, contents []archived) ([]string, bool) {
	var names []string
	for _, want := range contents {
		img, err := client.ImageService().Get(ctx, want.name)
		if err != nil || want.digest == "" || img.Target.Digest != want.digest || img.Labels[pinnedLabel] != pinnedValue {
			return nil, false
		}
		if unpacked, err := containerd.NewImage(client, img).IsUnpacked(ctx, ""); err != nil || !unpacked {
			return nil, false
		}
		names = append(names, want.name)
	}
	return names, true
}

// ImportAll imports all archives (*.tar) in dirs at once. It logs those that fail,
// and loads the others. A directory need not exist.
func ImportAll(ctx context.Context, logger *slog.Logger, client *containerd.Client, dirs []string) {
	var files []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			logger.Error("cannot look for image archives", "dir", dir, "err", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".tar") {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	var wg sync.WaitGroup
	for _, file := range files {
		wg.Go(func() {
			started := time.Now()
			names, err := ImportFile(ctx, client, file)
			if err != nil {
				logger.Error("could not load an image archive", "err", err)
				return
			}
			logger.Info("loaded an image archive", "file", file, "images", names, "took", time.Since(started).Round(time.Millisecond))
		})
	}
	wg.Wait()
}
