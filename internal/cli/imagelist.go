package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"everynode/internal/cli/console"
)

// imageRow is an image and where it is.
type imageRow struct {
	Name  string   `json:"name"`
	Nodes []string `json:"nodes"`
	// Pinned says that it was loaded from an archive, somewhere at least, and is
	// never thrown away there.
	Pinned bool `json:"pinned"`
}

func (cmd imageCommands) listCommand() *cobra.Command {
	output := ""
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images in the nodes",
		Example: "  everynode image list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := cmd.cluster.open()
			if err != nil {
				return err
			}
			rows, total, err := m.images(c.Context())
			if err != nil {
				return err
			}
			return cmd.Print(output, rows, func() error { return cmd.table(rows, total) })
		},
	}
	cmd.cluster.addFlags(c)
	console.OutputFlag(c, &output)
	return c
}

func (cmd imageCommands) table(rows []imageRow, total int) error {
	t := console.NewTable(cmd.Out, "IMAGE", "PINNED", "NODES")
	for _, r := range rows {
		where, pinned := strings.Join(r.Nodes, ", "), "no"
		if len(r.Nodes) == total {
			where = "all"
		}
		if r.Pinned {
			pinned = "yes"
		}
		t.Row(r.Name, pinned, where)
	}
	return t.Flush()
}

// images are those of the nodes that run, and how many nodes these are.
func (m *machine) images(ctx context.Context) (rows []imageRow, total int, err error) {
	nodes, err := m.loadTargets("")
	if err != nil {
		return nil, 0, err
	}
	found := make([][]images.Image, len(nodes))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		g.Go(func() error {
			var err error
			if found[i], err = imagesOf(ctx, m.containerdSocket(n.Name)); err != nil {
				return fmt.Errorf("list the images of %s: %w", n.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	byName := map[string]*imageRow{}
	for i, n := range nodes {
		for _, image := range found[i] {
			addImage(byName, n.Name, image)
		}
	}
	rows = make([]imageRow, 0, len(byName))
	for _, r := range byName {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b imageRow) int { return strings.Compare(a.Name, b.Name) })
	return rows, len(nodes), nil
}

// addImage notes that the node has the image. The names that Kubernetes' part of
// containerd keeps beside each image, by digest, are left out.
func addImage(rows map[string]*imageRow, node string, image images.Image) {
	if strings.HasPrefix(image.Name, "sha256:") || strings.Contains(image.Name, "@") {
		return
	}
	r := rows[image.Name]
	if r == nil {
		r = &imageRow{Name: image.Name}
		rows[image.Name] = r
	}
	r.Nodes = append(r.Nodes, node)
	r.Pinned = r.Pinned || image.Labels["io.cri-containerd.pinned"] == "pinned"
}

// imagesOf asks a node's containerd for what Kubernetes has in it.
func imagesOf(ctx context.Context, socket string) (list []images.Image, err error) {
	client, err := containerd.New(socket, containerd.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	defer client.Close()
	return client.ImageService().List(namespaces.WithNamespace(ctx, "k8s.io"))
}
