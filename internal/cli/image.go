package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/node/image"
)

// imageCommands are the commands of `everynode image`.
type imageCommands struct {
	*console.Console
	cluster *target
}

func (cmd imageCommands) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Load images into the nodes, push them to the registry, list them, or pack a folder into one",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(cmd.loadCommand(), cmd.pushCommand(), cmd.listCommand(), cmd.buildCommand())
	return c
}

func (cmd imageCommands) loadCommand() *cobra.Command {
	only := ""
	c := &cobra.Command{
		Use:   "load FILE...",
		Short: "Load image archives (OCI or docker-archive) into the nodes",
		Long: `Load image archives into the nodes of this machine. They are pinned, so that no node
throws away what it could not pull again. Without --node they are kept for nodes that
are added later, too.`,
		Example: `  everynode image load agent.tar
  everynode image load agent.tar --node node-2`,
		Args: console.AtLeastOne("archive"),
		RunE: func(c *cobra.Command, files []string) error {
			if err := areFiles(files); err != nil {
				return err
			}
			m, release, err := cmd.cluster.change()
			if err != nil {
				return err
			}
			defer release()
			return cmd.load(c.Context(), m, files, only)
		},
	}
	cmd.cluster.addFlags(c)
	c.Flags().StringVar(&only, "node", "", "load into this node only")
	console.CompleteFlag(c, "node", cmd.cluster.completeNodes)
	return c
}

// areFiles returns an error for files that do not exist, before anything is
// loaded.
func areFiles(files []string) error {
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("image archive %s cannot be read: %w", file, errors.Unwrap(err))
		}
		if info.IsDir() {
			return fmt.Errorf("%s is a folder, not an image archive: `everynode image build %s --name NAME --output FILE` makes one of it", file, file)
		}
	}
	return nil
}

// load loads one archive after another; each is loaded whole or not at all.
func (cmd imageCommands) load(ctx context.Context, m *localcluster.Cluster, files []string, only string) error {
	nodes, err := m.Runtimes(only)
	if err != nil {
		return err
	}
	for _, file := range files {
		names, err := nodes.Load(ctx, file)
		if err != nil {
			return err
		}
		if only == "" {
			if err := m.KeepImage(file); err != nil {
				return err
			}
		}
		fmt.Fprintf(cmd.Out, "%s loaded into %s\n", strings.Join(names, ", "), nodes)
	}
	return nil
}

func (cmd imageCommands) buildCommand() *cobra.Command {
	o := image.BuildOptions{Compression: image.Gzip}
	c := &cobra.Command{
		Use:   "build DIR --name NAME --output FILE",
		Short: "Pack a folder into an image archive, without a container engine",
		Long: `Pack a folder, as the root file system, into an OCI image archive. Nothing is run, and
the same folder always gives the same bytes.`,
		Example: `  everynode image build rootfs --name example.com/agent:1 --entrypoint /agent --output agent.tar
  everynode image load agent.tar`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			o.Dir = args[0]
			if err := image.Build(o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.Out, "%s written to %s\n", o.Name, o.Output)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "name of the image, as in a pod's spec (required)")
	f.StringVar(&o.Output, "output", "", "archive to write (required)")
	f.StringArrayVar(&o.Entrypoint, "entrypoint", nil, "word of the entrypoint; may be repeated")
	f.StringArrayVar(&o.Cmd, "cmd", nil, "word of the default arguments; may be repeated")
	f.StringArrayVar(&o.Env, "env", nil, "NAME=VALUE; may be repeated")
	f.StringArrayVar(&o.Labels, "label", nil, "NAME=VALUE in the image's configuration; may be repeated")
	f.StringVar(&o.WorkingDir, "workdir", "", "working directory of containers")
	f.Var(console.OneOf((*string)(&o.Compression), image.Compressions()), "compression", "of the layer: gzip, or zstd, which nodes unpack faster")
	f.StringVar(&o.Architecture, "arch", "", "architecture of the programs in the folder, such as arm64 (default: this machine's)")
	f.StringVar(&o.User, "user", "", "user or uid[:gid] of containers")
	console.CompleteWords(c, "compression", image.Compressions())
	for _, words := range []string{"entrypoint", "cmd"} {
		console.MayBeEmpty(f, words)
	}
	for _, name := range []string{"name", "output"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // only if there is no such flag
		}
	}
	return c
}
