package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// system is one of the things that are compared.
type system struct {
	name string
	// controller is the role of Kubernetes' own, or empty: the engine's program.
	controller, scheduler string
	syncs, qps            int // of Kubernetes' controller; qps 0: as shipped
	bare                  bool
	once                  bool // in the first repetition alone
	// only is the phases after coverage that it is measured in; nil: all.
	only []string
}

// lifted is the client limit of upstream when it is not as shipped.
const lifted = 10000

func systems() []system {
	return []system{
		{name: "R", bare: true},
		{name: "U2", controller: roleControllerManager, scheduler: roleScheduler, syncs: 2, qps: lifted},
		// Of one DaemonSet there is but one sync at a time, however many there may be.
		{name: "U16", controller: roleControllerManager, scheduler: roleScheduler, syncs: 16, qps: lifted, only: []string{phaseLabels, phaseMany}, once: true},
		// It takes as long as its client limits say.
		{name: "U0", controller: roleControllerManager, scheduler: roleScheduler, once: true},
		{name: "E"},
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

// startController starts what creates the pods, as a user of that name.
func (r *run) startController(user string) (*child, error) {
	config, err := r.pki.kubeconfig(r.dir, r.url, user)
	if err != nil {
		return nil, err
	}
	if r.system.controller == "" {
		// Two may run side by side, and a port is only for one. Nobody else is there to be looked for.
		return start("everynode-"+user, r.dir, nil, r.bench.controller, "--kubeconfig="+config, "--metrics-bind-address=0", "--allow-other-controller")
	}
	args := []string{
		"--kubeconfig=" + config, "--controllers=daemonset-controller", "--secure-port=0",
		"--flex-volume-plugin-dir=" + filepath.Join(r.dir, "volume-plugins"), // else it makes one for the host
	}
	if r.system.qps > 0 {
		// Without the gate, which is off as shipped, a successor always waits
		// for the lease of the one before to expire.
		args = append(args, limits(r.system.qps)...)
		args = append(args, "--concurrent-daemonset-syncs="+strconv.Itoa(r.system.syncs),
			"--feature-gates=ControllerManagerReleaseLeaderElectionLockOnExit=true")
	}
	return startRole(r.system.controller, r.system.controller+"-"+user, r.dir, nil, args...)
}

func (r *run) startScheduler() (*child, error) {
	config, err := r.pki.kubeconfig(r.dir, r.url, userScheduler)
	if err != nil {
		return nil, err
	}
	args := []string{"--kubeconfig=" + config, "--secure-port=0"}
	if r.system.qps > 0 {
		args = append(args, limits(r.system.qps)...)
	}
	return startRole(r.system.scheduler, r.system.scheduler, r.dir, nil, args...)
}

func limits(qps int) []string {
	return []string{"--kube-api-qps=" + strconv.Itoa(qps), "--kube-api-burst=" + strconv.Itoa(qps)}
}

// startSystem starts the processes that are compared, and returns when a first
// DaemonSet has been seen to: they work, and know the cluster.
func (r *run) startSystem(ctx context.Context) error {
	c, err := r.startController(userController)
	if err != nil {
		return err
	}
	r.processes = append(r.processes, c)
	if r.system.scheduler != "" {
		c, err := r.startScheduler()
		if err != nil {
			return err
		}
		r.processes = append(r.processes, c)
	}
	const name = "first"
	if err := r.createSet(ctx, daemonSet(name, labelIdle, tenPercent)); err != nil {
		return err
	}
	_, err = r.fleet.await(ctx, "the controller works", covered(name, 0))
	if err != nil {
		return fmt.Errorf("%w; %s", err, strings.Join(r.logTails(), "; "))
	}
	return r.settle(ctx)
}

func (r *run) logTails() (tails []string) {
	for _, c := range r.processes {
		tails = append(tails, c.name+" says: "+c.tail())
	}
	return tails
}
