package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	store "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

// Registry is a registry on this machine. It takes images without TLS and without a
// password.
type Registry struct {
	Host    string // as in the names of images, such as localhost:5000
	Address string // where it listens, such as 127.0.0.1:5000
}

// Push sends the images of an archive, as [Import] reads them, to a registry: under
// the names that they have, or, if as is not "", the only image under that name. Of
// an image for several platforms it sends the one for this machine. It returns the
// full names.
func (r Registry) Push(ctx context.Context, file, as string) (names []string, err error) {
	ctx = log.WithLogger(ctx, logrus.NewEntry(silent()))
	contents, err := inspect(file)
	if err != nil {
		return nil, err
	}
	renamed, err := r.names(file, contents, as)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "everynode-push-")
	if err != nil {
		return nil, fmt.Errorf("make a folder to unpack %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	blobs, err := store.NewStore(scratch)
	if err != nil {
		return nil, fmt.Errorf("make a folder to unpack %s: %w", file, err)
	}
	named, err := readImages(ctx, blobs, file)
	if err != nil {
		return nil, fmt.Errorf("image archive %s cannot be read: %w", file, err)
	}
	for _, c := range contents {
		name := renamed[c.name]
		if err := r.send(ctx, blobs, name, named[c.name]); err != nil {
			return names, fmt.Errorf("push %s: %w", name, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// names maps the names in an archive to those that the images get in the registry.
func (r Registry) names(file string, contents []archived, as string) (map[string]string, error) {
	names := map[string]string{}
	for _, c := range contents {
		name := c.name
		if as != "" {
			if len(contents) > 1 {
				return nil, fmt.Errorf("%s contains %d images, and only one of them could be called %s: leave out --as", file, len(contents), as)
			}
			name = normalizeName(as)
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("bad image name %q: %w; a good one is %s/agent:1", name, err, r.Host)
		}
		if reference.Domain(named) != r.Host {
			own := r.Host + "/" + reference.Path(named) + ":" + tagOf(named)
			return nil, fmt.Errorf("%s names another registry than %s: give it a name there, such as --as %s", name, r.Host, own)
		}
		names[c.name] = name
	}
	return names, nil
}

func tagOf(named reference.Named) string {
	if tagged, ok := named.(reference.Tagged); ok {
		return tagged.Tag()
	}
	return "latest"
}

// readImages unpacks an archive into blobs, and returns its images by name.
func readImages(ctx context.Context, blobs content.Store, file string) (map[string]ocispec.Descriptor, error) {
	f, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root, err := archive.ImportIndex(ctx, blobs, f, archive.WithImportCompression())
	if err != nil {
		return nil, err
	}
	data, err := content.ReadBlob(ctx, blobs, root)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	named := map[string]ocispec.Descriptor{}
	for _, m := range index.Manifests {
		if name := nameOf(m); name != "" {
			named[name] = m
		}
	}
	return named, nil
}

// send pushes one image.
func (r Registry) send(ctx context.Context, blobs content.Store, name string, image ocispec.Descriptor) error {
	image, err := ofThisPlatform(ctx, blobs, image)
	if err != nil {
		return err
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: func(string) ([]docker.RegistryHost, error) {
		return []docker.RegistryHost{{Host: r.Address, Scheme: "http", Path: "/v2",
			Capabilities: docker.HostCapabilityPush | docker.HostCapabilityPull | docker.HostCapabilityResolve}}, nil
	}})
	pusher, err := resolver.Pusher(ctx, name)
	if err != nil {
		return err
	}
	return remotes.PushContent(ctx, pusher, image, blobs, nil, platforms.Default(), nil)
}

// ofThisPlatform chooses this machine's image from an image for several platforms: an
// archive rarely contains the others, and the registry refuses an image that refers
// to what it lacks.
func ofThisPlatform(ctx context.Context, blobs content.Store, image ocispec.Descriptor) (ocispec.Descriptor, error) {
	own := platforms.Default()
	choose := images.LimitManifests(images.FilterPlatforms(images.ChildrenHandler(blobs), own), own, 1)
	for images.IsIndexType(image.MediaType) {
		children, err := choose(ctx, image)
		if err != nil {
			return image, err
		}
		if len(children) == 0 {
			return image, fmt.Errorf("it is not for the platform of this machine, %s", strings.TrimSpace(platforms.DefaultString()))
		}
		image = children[0]
	}
	return image, nil
}
