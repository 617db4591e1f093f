package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/dynamic"

	"everynode/bench/testbed"
)

// system is one of the systems that are compared.
type system struct {
	name string
	// controller is the role of Kubernetes' own controller; "" means the engine's program.
	controller, scheduler string
	syncs, qps            int // of Kubernetes' controller; qps 0: the default
	bare                  bool
	policy                bool // the DaemonSets follow a policy
	inPlace               bool // the DaemonSets ask for updates in place
	before                bool // the program of --before
	once                  bool // only the first repetition measures it
	// only are the phases after coverage in which it is measured; nil: all.
	only []string
}

// lifted is upstream's client limit in requests a second, where it is not the default.
const lifted = 10000

func systems() []system {
	return []system{
		{name: "R", bare: true},
		{name: "U2", controller: testbed.RoleControllerManager, scheduler: testbed.RoleScheduler, syncs: 2, qps: lifted},
		// There is only one sync at a time for each DaemonSet, so more syncs help only with
		// many DaemonSets.
		{name: "U16", controller: testbed.RoleControllerManager, scheduler: testbed.RoleScheduler, syncs: 16, qps: lifted, only: []string{phaseLabels, phaseMany}, once: true},
		// How long it takes depends only on its client limits.
		{name: "U0", controller: testbed.RoleControllerManager, scheduler: testbed.RoleScheduler, once: true},
		{name: "E"},
		{name: "P", policy: true, only: []string{phaseRollout}},
		{name: "I", inPlace: true, only: []string{phaseRollout, phaseReal}, once: true},
		{name: "B", before: true},
	}
}

func systemNames() (names []string) {
	for _, s := range systems() {
		names = append(names, s.name)
	}
	return names
}

func systemNamed(name string) system {
	all := systems()
	return all[slices.IndexFunc(all, func(s system) bool { return s.name == name })]
}

// startController starts the controller that creates the pods, as a user of that name.
func (r *run) startController(user string) (*testbed.Child, error) {
	program := r.bench.controller
	if r.system.before {
		program = r.bench.before
	}
	return r.StartController(user, testbed.Controller{Role: r.system.controller, Program: program, Syncs: r.system.syncs, QPS: r.system.qps})
}

// startSystem starts the compared processes, and returns when they have handled a first
// DaemonSet: then they work, and know the cluster.
func (r *run) startSystem(ctx context.Context) error {
	if r.system.policy {
		if err := r.installPolicy(ctx); err != nil {
			return err
		}
	}
	c, err := r.startController(testbed.UserController)
	if err != nil {
		return err
	}
	r.processes = append(r.processes, c)
	if r.system.scheduler != "" {
		c, err := r.StartScheduler(r.system.qps)
		if err != nil {
			return err
		}
		r.processes = append(r.processes, c)
	}
	const name = "first"
	if err := r.createSet(ctx, testbed.DaemonSet(name, labelIdle, tenPercent)); err != nil {
		return err
	}
	_, err = r.fleet.await(ctx, "the controller works", covered(name, 0))
	if err != nil {
		return fmt.Errorf("%w; %s", err, strings.Join(r.logTails(), "; "))
	}
	return r.settle(ctx)
}

const policyName = "waves"

// installPolicy creates a policy that waits as little as possible, so that only its work is
// measured.
func (r *run) installPolicy(ctx context.Context) error {
	client, err := dynamic.NewForConfig(r.bench.keys.Config(r.URL, testbed.UserDriver))
	if err != nil {
		return fmt.Errorf("make a client for policies: %w", err)
	}
	return testbed.InstallReleases(ctx, client, policyName, map[string]any{"waves": []any{
		map[string]any{"name": "first", "nodes": int64(1), "soak": "0s"}, map[string]any{"name": "all", "nodes": "100%", "soak": "0s"}}})
}

func (r *run) logTails() (tails []string) {
	for _, c := range r.processes {
		tails = append(tails, c.Name+" says: "+c.Tail())
	}
	return tails
}
