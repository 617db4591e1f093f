package main

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/bench/report"
)

// coverage: a DaemonSet comes to a cluster where no node has a pod of it.
func (r *run) coverage(ctx context.Context, m report.Metrics) error {
	allRun := r.fleet.expect(running(agentName, r.size))
	began := time.Now()
	if err := r.createSet(ctx, daemonSet(agentName, "", tenPercent)); err != nil {
		return err
	}
	ran, err := allRun.await(ctx, r.fleet, "all pods run")
	if err != nil {
		return err
	}
	known, err := r.fleet.await(ctx, "the status says that all pods are available", covered(agentName, r.size))
	m["running"], m["time"], m["pods"] = ran.Sub(began).Seconds(), known.Sub(began).Seconds(), float64(r.size)
	return err
}

// rollout: every pod is replaced, a tenth at a time.
func (r *run) rollout(ctx context.Context, m report.Metrics) error {
	return r.replace(ctx, agentName, r.size, m)
}

const serialName = "serial"

func (r *run) prepareSerial(ctx context.Context) error {
	if err := r.createSet(ctx, daemonSet(serialName, labelSerial, intstr.FromInt32(1))); err != nil {
		return err
	}
	_, err := r.fleet.await(ctx, "the pods to be replaced one by one run", covered(serialName, r.serial))
	return err
}

// serialRollout: as rollout, one node after the other.
func (r *run) serialRollout(ctx context.Context, m report.Metrics) error {
	return r.replace(ctx, serialName, r.serial, m)
}

func (r *run) replace(ctx context.Context, name string, pods int, m report.Metrics) error {
	began := time.Now()
	generation, err := r.setImage(ctx, name, image("2"))
	if err != nil {
		return err
	}
	done := covered(name, pods)
	ended, err := r.fleet.await(ctx, "every pod is replaced", func(f *fleet) bool {
		return f.sets[name].generation >= generation && done(f)
	})
	m["time"], m["pods"] = ended.Sub(began).Seconds(), float64(pods)
	return err
}
