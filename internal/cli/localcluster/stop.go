package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"everynode/internal/cli/console"
	"everynode/internal/datadir"
)

// Stop stops the nodes, then the control plane, and then removes the network. It tries
// every step, even if one fails, and prints to warnings what it did not restore.
func (c *Cluster) Stop(ctx context.Context, p *console.Progress, warnings io.Writer) error {
	errs, simulator := make([]error, len(c.Nodes)), error(nil)
	var nodes sync.WaitGroup
	for i, n := range c.Nodes {
		nodes.Go(func() {
			done := p.Step()
			_, ran := datadir.Running(c.AgentLock(n.Name))
			errs[i] = errors.Join(c.StopNode(ctx, n), c.Host().RemoveNode(ctx, n.Name, false))
			if ran && errs[i] == nil {
				done("%s stopped", n.Name)
			}
		})
	}
	nodes.Go(func() {
		done := p.Step()
		_, ran := datadir.Running(c.Simulator().Lock())
		if simulator = c.Simulator().Stop(ctx); ran && simulator == nil {
			done("simulated nodes stopped")
		}
	})
	nodes.Wait()
	done := p.Step()
	err := errors.Join(errors.Join(errs...), simulator, c.Registry().Stop(ctx), c.stopServer(ctx))
	warning, removed := c.Host().Remove(ctx)
	if warning != "" {
		fmt.Fprintf(warnings, "warning: %s\n", warning)
	}
	switch err = errors.Join(err, removed); {
	case err == nil && c.Loopback:
		done("control plane stopped")
	case err == nil:
		done("control plane stopped, network removed")
	}
	return err
}
