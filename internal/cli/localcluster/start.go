package localcluster

import (
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// Starting is the start of a cluster, or of some of its nodes: what must run before what, and where it prints.
type Starting struct {
	cluster  *Cluster
	progress *console.Progress
	out, err io.Writer // err is for warnings
}

// Start begins a start. It prints to out what was missing and exists again, and warnings to err.
func (c *Cluster) Start(p *console.Progress, out, err io.Writer) *Starting {
	return &Starting{c, p, out, err}
}

// All starts the control plane and the nodes. It makes the nodes' namespaces while the API server starts.
func (s *Starting) All(ctx context.Context, simulated Simulated) error {
	if err := s.makeNetwork(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.startServer(gctx) })
	g.Go(func() error { return s.makeNodes(gctx) })
	g.Go(func() error { return s.startRegistry(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.Join(ctx, wanted(s.cluster.Nodes)); err != nil {
		return err
	}
	if err := s.Dress(ctx, s.cluster.specs); err != nil {
		return err
	}
	return s.startFleet(ctx, simulated)
}

// makeNetwork makes what the nodes share on this machine. A cluster on loopback has none.
func (s *Starting) makeNetwork(ctx context.Context) error {
	if s.cluster.Loopback {
		return nil
	}
	done := s.progress.Step()
	if err := s.cluster.Host().Ensure(ctx); err != nil {
		return err
	}
	done("network %s on bridge %s", s.cluster.Subnet, s.cluster.Bridge())
	warnings, err := s.cluster.Host().Warnings(ctx)
	if err != nil {
		return err
	}
	for _, w := range append(s.cluster.addons().unbuilt(), warnings...) {
		fmt.Fprintf(s.err, "warning: %s\n", w)
	}
	return nil
}

// MendNetwork sets up again what somebody has removed of the network of a cluster that runs, and says what it was.
func (s *Starting) MendNetwork(ctx context.Context) error {
	gone, err := s.cluster.Host().Mend(ctx)
	if len(gone) > 0 {
		fmt.Fprintf(s.out, "The network of this machine lacked this, and has it again: %s.\n", strings.Join(gone, ", "))
	}
	return err
}

// wanted returns the nodes that were not stopped by hand.
func wanted(all []local.Node) []local.Node {
	var nodes []local.Node
	for _, n := range all {
		if !n.Stopped {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (s *Starting) startServer(ctx context.Context) error {
	done := s.progress.Step()
	_, ran := datadir.Running(s.cluster.ServerLock())
	if !ran {
		if _, err := local.Spawn(ctx, s.cluster.server()); err != nil {
			return err
		}
	}
	if err := s.waitAPI(ctx); err != nil {
		return err
	}
	done("API server ready at %s", s.cluster.ServerURL())
	if ran {
		s.MendAddons(ctx)
	} else if addon, has := s.cluster.addons().find(addons.Registry); has { // the server does not know this add-on
		s.makeAddons(ctx, []addons.Addon{addon})
	}
	return nil
}

func (s *Starting) makeNodes(ctx context.Context) error {
	nodes := wanted(s.cluster.Nodes)
	if len(nodes) == 0 {
		return nil
	}
	done := s.progress.Step()
	for _, n := range nodes {
		if err := s.cluster.Host().EnsureNode(ctx, n.Name); err != nil {
			return err
		}
	}
	done("namespaces of %d nodes", len(nodes))
	return nil
}
