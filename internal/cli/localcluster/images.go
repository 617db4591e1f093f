package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sync/errgroup"

	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
	"everynode/internal/node/image"
)

// runtime is the containerd of a running node.
type runtime struct{ node, socket string }

// Runtimes are the runtimes of several nodes.
type Runtimes []runtime

// Runtimes are the runtimes of the nodes that run; if only is not "", of that
// node alone.
func (c *Cluster) Runtimes(only string) (Runtimes, error) {
	var list Runtimes
	for _, n := range c.Nodes {
		if _, ok := datadir.Running(c.AgentLock(n.Name)); ok && (only == "" || n.Name == only) {
			list = append(list, runtime{n.Name, filepath.Join(c.NodeDir(n.Name), "containerd", "containerd.sock")})
		}
	}
	if only == "" {
		if len(list) == 0 {
			return nil, errors.New("no node runs: start the cluster with `everynode up`")
		}
		return list, nil
	}
	if _, err := c.Node(only); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s does not run: start it with `everynode node start %s`", only, only)
	}
	return list, nil
}

// Load loads an archive into all the nodes, and returns the names of its images.
func (l Runtimes) Load(ctx context.Context, file string) (names []string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	results := make([][]string, len(l))
	for i, r := range l {
		g.Go(func() (err error) {
			if results[i], err = image.Import(ctx, r.socket, file); err != nil {
				return fmt.Errorf("%s: %w", r.node, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return results[0], nil
}

// String names the nodes.
func (l Runtimes) String() string {
	names := make([]string, len(l))
	for i, r := range l {
		names[i] = r.node
	}
	return strings.Join(names, ", ")
}

// KeepImage copies an archive to where agents look for archives when they start.
func (c *Cluster) KeepImage(file string) error {
	if err := os.MkdirAll(imageDir(c.DataDir), 0o700); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	defer in.Close()
	out, err := atomicfile.Create(filepath.Join(imageDir(c.DataDir), filepath.Base(file)))
	if err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Commit()
	}
	if err = errors.Join(err, out.Discard()); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	return nil
}

// Image is an image and the nodes that have it.
type Image struct {
	Name  string   `json:"name"`
	Nodes []string `json:"nodes"`
	// Pinned is whether at least one node loaded it from an archive, and so
	// never deletes it.
	Pinned bool `json:"pinned"`
}

// Images lists the images of all the nodes, sorted by name.
func (l Runtimes) Images(ctx context.Context) ([]Image, error) {
	found := make([][]images.Image, len(l))
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range l {
		g.Go(func() error {
			var err error
			if found[i], err = imagesOf(ctx, r.socket); err != nil {
				return fmt.Errorf("list the images of %s: %w", r.node, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	byName := map[string]*Image{}
	for i, r := range l {
		for _, image := range found[i] {
			addImage(byName, r.node, image)
		}
	}
	all := make([]Image, 0, len(byName))
	for _, image := range byName {
		all = append(all, *image)
	}
	slices.SortFunc(all, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// addImage notes that the node has the image. It leaves out the names by digest
// that containerd's Kubernetes plugin keeps with each image.
func addImage(rows map[string]*Image, node string, image images.Image) {
	if strings.HasPrefix(image.Name, "sha256:") || strings.Contains(image.Name, "@") {
		return
	}
	r := rows[image.Name]
	if r == nil {
		r = &Image{Name: image.Name}
		rows[image.Name] = r
	}
	r.Nodes = append(r.Nodes, node)
	r.Pinned = r.Pinned || image.Labels["io.cri-containerd.pinned"] == "pinned"
}

// imagesOf lists the images that a node's containerd has for Kubernetes.
func imagesOf(ctx context.Context, socket string) (list []images.Image, err error) {
	client, err := containerd.New(socket, containerd.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	defer client.Close()
	return client.ImageService().List(namespaces.WithNamespace(ctx, "k8s.io"))
}
