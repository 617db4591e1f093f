package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/node/image"
)

func (cmd imageCommands) pushCommand() *cobra.Command {
	as := ""
	c := &cobra.Command{
		Use:   "push FILE...",
		Short: "Push image archives (OCI or docker-archive) to the cluster's registry",
		Long: `Push image archives to the registry of a cluster that has one (up --with registry), under
the names that they have, which begin with the registry, as localhost:5000/agent:1. Any
other tool can push there as well.`,
		Example: `  everynode image build rootfs --name localhost:5000/agent:1 --entrypoint /agent --output agent.tar
  everynode image push agent.tar
  everynode image push other.tar --as localhost:5000/other:2`,
		Args: console.AtLeastOne("archive"),
		RunE: func(c *cobra.Command, files []string) error {
			if as != "" && len(files) > 1 {
				return console.Usage(errors.New("--as is for one archive: push them one by one"))
			}
			return cmd.push(c.Context(), files, as)
		},
	}
	cmd.cluster.addFlags(c)
	c.Flags().StringVar(&as, "as", "", "another name for the image, if the archive has only one")
	return c
}

func (cmd imageCommands) push(ctx context.Context, files []string, as string) error {
	if err := areFiles(files); err != nil {
		return err
	}
	m, err := cmd.cluster.open()
	if err != nil {
		return err
	}
	registry := m.Registry()
	if !registry.Wanted() {
		return fmt.Errorf("the cluster has no registry: stop it with `everynode down`, and start it with `everynode up --%s %s`; or load the image into the nodes with `everynode image load`", localcluster.FlagWith, addons.Registry)
	}
	if _, runs := datadir.Running(registry.Lock()); !runs {
		return errors.New("the registry does not run: start what is missing with `everynode up`")
	}
	// The blob store would log what file system it is on.
	logrus.SetLevel(logrus.ErrorLevel)
	to := image.Registry{Host: registry.Host, Address: registry.Push.String()}
	for _, file := range files {
		names, err := to.Push(ctx, file, as)
		for _, pushed := range names {
			fmt.Fprintf(cmd.Out, "%s pushed\n", pushed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
