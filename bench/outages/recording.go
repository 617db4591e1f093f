package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"everynode/bench/testbed"
	"everynode/internal/fleetview"
	"everynode/internal/lookout"
	"everynode/internal/ui"
	"everynode/internal/view"
)

// recorded calls do. If that was asked for, it meanwhile writes to a file what the page of `everynode ui` would show.
func (r *run) recorded(ctx context.Context, scenario string, do func() error) (err error) {
	if r.record == "" {
		return do()
	}
	name := filepath.Join(r.record, scenario+"-"+r.system+".fleet.gz")
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("record the scenario: %w", err)
	}
	packed := gzip.NewWriter(file)
	defer func() { err = errors.Join(err, packed.Close(), file.Close()) }()
	kinds := r.releases.client
	of := lookout.Releases{Rollouts: kinds.Resource(view.ReleaseResource(view.RolloutResource)), Policies: kinds.Resource(view.ReleaseResource(view.PolicyResource))}
	page := &watched{fleet: lookout.NewFleet(ctx, r.Client, of, testbed.Namespace), system: r.system, seen: make(chan struct{})}
	recording, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- ui.Record(recording, page, packed) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	if err := page.await(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return r.fleet.watchFor(ctx, 2*fleetview.Pace*time.Millisecond) // so that the recording shows the end, too
}

// watched is the fleet as the page sees it. Its nodes are simulated, and have no logs.
type watched struct {
	fleet  *lookout.Fleet
	system string
	once   sync.Once
	seen   chan struct{} // closed once a state was shown
}

// await waits until a state was shown.
func (w *watched) await(ctx context.Context) error {
	timer := time.NewTimer(setupTime)
	defer timer.Stop()
	select {
	case <-w.seen:
		return nil
	case <-timer.C:
		return fmt.Errorf("waiting %s until the fleet is seen, to record it: %w", setupTime, errTooLate)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Follow calls show with each new state of the fleet.
func (w *watched) Follow(ctx context.Context, show func(*fleetview.State), failing func(string)) error {
	return w.fleet.Watch(ctx, func(s *fleetview.State) {
		s.Cluster = "a simulated fleet, with the controller of " + w.system
		show(s)
		w.once.Do(func() { close(w.seen) })
	}, failing)
}

// Node returns details of a node.
func (w *watched) Node(ctx context.Context, name string) (*fleetview.NodeDetail, error) {
	return w.fleet.Node(ctx, name, time.Now())
}

// Events returns the Events about a DaemonSet.
func (w *watched) Events(ctx context.Context, namespace, name string) (*fleetview.Events, error) {
	return w.fleet.Events(ctx, namespace, name)
}

// Log returns an error: there are no logs.
func (*watched) Log(context.Context, string, string, string) (*fleetview.Log, error) {
	return nil, fmt.Errorf("simulated nodes have no logs: %w", fleetview.ErrUnknown)
}
