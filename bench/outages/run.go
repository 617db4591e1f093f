package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"everynode/bench/testbed"
)

// The systems that are compared.
const (
	everynode = "everynode"
	upstream  = "kubernetes"
)

// Default client limits of Kubernetes' controller manager and scheduler, in requests a second. They are multiplied by
// the time scale.
const (
	managerQPS   = 20
	schedulerQPS = 50
	syncs        = 2
)

// outages is a whole measurement.
type outages struct {
	settings
	root     string // of all temporary files
	keys     testbed.PKI
	progress io.Writer
	began    time.Time
	results  *results
}

func (o *outages) say(format string, args ...any) {
	fmt.Fprintf(o.progress, "%6.0fs  %s\n", time.Since(o.began).Seconds(), fmt.Sprintf(format, args...))
}

// all plays every scenario with each system, on a cluster for each system.
func (o *outages) all(ctx context.Context) (err error) {
	if o.keys, err = testbed.MakePKI(filepath.Join(o.root, "pki")); err != nil {
		return err
	}
	prepared, err := o.prepare(ctx)
	if err != nil {
		return err
	}
	for _, system := range o.systems {
		for _, scale := range o.scales() {
			if err := o.one(ctx, system, scale, prepared); err != nil {
				return fmt.Errorf("%s: %w", system, err)
			}
		}
	}
	return nil
}

// scales returns the time scales of the wanted scenarios, fastest first. Each has a fleet of its own.
func (o *outages) scales() (all []float64) {
	for _, s := range scenarios() {
		if scale := o.scaleOf(s); o.wants(s.Name) && !slices.Contains(all, scale) {
			all = append(all, scale)
		}
	}
	slices.SortFunc(all, func(a, b float64) int { return cmp.Compare(b, a) })
	return all
}

func (s *settings) scaleOf(played scenario) float64 {
	if played.MaxScale > 0 {
		return min(s.scale, played.MaxScale)
	}
	return s.scale
}

// prepare makes the nodes, once. Each system starts from a copy.
func (o *outages) prepare(ctx context.Context) (*testbed.Cluster, error) {
	c, err := testbed.StartCluster(ctx, filepath.Join(o.root, "prepared"), o.keys)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	if _, err := c.Fill(ctx, o.nodes, map[string]int{testbed.LabelSerial: o.nodes}); err != nil {
		return nil, err
	}
	o.say("%d nodes are there", o.nodes)
	return c, nil
}

// run is one system on its cluster.
type run struct {
	*outages
	*testbed.Cluster
	system   string
	scale    float64
	fleet    *fleet
	releases *releases
	children []*testbed.Child
	detour   *detour
}

func (o *outages) one(ctx context.Context, system string, scale float64, prepared *testbed.Cluster) error {
	dir := filepath.Join(o.root, fmt.Sprintf("%s-%g", system, scale))
	if err := prepared.CopyTo(dir); err != nil {
		return err
	}
	c, err := testbed.StartCluster(ctx, dir, o.keys)
	if err != nil {
		return err
	}
	defer c.Stop()
	client, err := kubernetes.NewForConfig(o.keys.Config(c.URL, testbed.UserKubelet))
	if err != nil {
		return fmt.Errorf("make the kubelets' client: %w", err)
	}
	config := o.keys.Config(c.URL, testbed.UserDriver)
	config.ContentType, config.AcceptContentTypes = "", "" // objects of our kinds are JSON
	kinds, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make the client for releases: %w", err)
	}
	r := &run{outages: o, Cluster: c, system: system, scale: scale, fleet: newFleet(client, o.nodes, scale), releases: &releases{client: kinds, scale: scale}}
	ctx, cancel := context.WithCancel(ctx)
	defer r.fleet.kubelets.all.Wait()
	if r.detour, err = newDetour(c.URL, func() time.Duration { return r.fleet.kubelets.answersTake(o.nodes) }); err != nil {
		cancel()
		return err
	}
	r.fleet.kubelets.work(func() error { return r.detour.run(ctx) })
	defer cancel()
	if err := r.releases.install(ctx); err != nil {
		return err
	}
	if err := r.fleet.start(ctx, client); err != nil {
		return err
	}
	if err := r.releases.follow(ctx, r.fleet.release); err != nil {
		return err
	}
	defer r.stopSystem()
	if err := r.startSystem(c); err != nil {
		return err
	}
	return r.playAll(ctx)
}

func (r *run) stopSystem() {
	for _, p := range r.children {
		p.Stop()
	}
	r.children = nil
}

// byDetour plays a scenario with a system that reaches the API server through the detour.
func (r *run) byDetour(ctx context.Context, s scenario) (*result, error) {
	slow, straight := *r.Cluster, r.Cluster
	slow.URL = r.detour.url()
	r.stopSystem()
	if err := r.startSystem(&slow); err != nil {
		return nil, err
	}
	result, err := r.play(ctx, s)
	if err != nil {
		return nil, err
	}
	r.stopSystem()
	return result, r.startSystem(straight)
}

// startSystem starts the compared processes, with the API server at the address in on.
func (r *run) startSystem(on *testbed.Cluster) error {
	how := testbed.Controller{Program: r.controller}
	if r.system == upstream {
		how = testbed.Controller{Role: testbed.RoleControllerManager, Syncs: syncs, QPS: int(managerQPS * r.scale)}
	}
	c, err := on.StartController(testbed.UserController, how)
	if err != nil {
		return err
	}
	r.children = append(r.children, c)
	if r.system != upstream {
		return nil
	}
	if c, err = on.StartScheduler(int(schedulerQPS * r.scale)); err != nil {
		return err
	}
	r.children = append(r.children, c)
	return nil
}

func (r *run) playAll(ctx context.Context) error {
	for _, s := range scenarios() {
		if !r.wants(s.Name) || r.scaleOf(s) != r.scale {
			continue
		}
		play := r.play
		if s.Bad.Floods {
			play = r.byDetour
		}
		result, err := play(ctx, s)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s.Name, err), testbed.Alive(append(r.children, r.API, r.Etcd)...))
		}
		r.results.add(result)
		r.say("%-10s  %-14s %s", r.system, s.Name, result)
	}
	return nil
}
