package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

// agents returns the names of the DaemonSets that run on every node.
func (s *settings) agents() []string {
	names := []string{testbed.AgentName}
	for i := 2; i <= s.sets; i++ {
		names = append(names, fmt.Sprintf("%s-%d", testbed.AgentName, i))
	}
	return names
}

// coverNodes creates DaemonSets in a cluster whose nodes have no pods of them.
func coverNodes(ctx context.Context, r *run, m report.Metrics) error {
	names := r.agents()
	allRun := r.fleet.expect(each(names, func(name string) func(*fleet) bool { return running(name, r.size) }))
	began := time.Now()
	for _, name := range names {
		ds := testbed.DaemonSet(name, "", tenPercent)
		if r.plainPods {
			ds = testbed.Plain(ds)
		}
		if err := r.createSet(ctx, ds); err != nil {
			return err
		}
	}
	ran, err := allRun.await(ctx, r.fleet, "all pods run")
	if err != nil {
		return err
	}
	known, err := r.fleet.await(ctx, "the status says that all pods are available",
		each(names, func(name string) func(*fleet) bool { return covered(name, r.size) }))
	m["running"], m["time"], m["pods"] = ran.Sub(began).Seconds(), known.Sub(began).Seconds(), float64(r.size*len(names))
	return err
}

// oneRollout replaces every pod, a tenth of each DaemonSet's at a time.
func oneRollout(ctx context.Context, r *run, m report.Metrics) error {
	return r.replace(ctx, r.agents()[:r.updates], r.size, m)
}

const serialName = "serial"

func prepareSerial(ctx context.Context, r *run) error {
	if err := r.createSet(ctx, testbed.DaemonSet(serialName, testbed.LabelSerial, intstr.FromInt32(1))); err != nil {
		return err
	}
	_, err := r.fleet.await(ctx, "the pods to be replaced one by one run", covered(serialName, r.serial))
	return err
}

// serialRollout replaces pods on one node after another.
func serialRollout(ctx context.Context, r *run, m report.Metrics) error {
	return r.replace(ctx, []string{serialName}, r.serial, m)
}

const realName = "real"

// prepareReal creates pods on some nodes. After that the kubelets write what real
// ones do.
func prepareReal(ctx context.Context, r *run) error {
	if err := r.createSet(ctx, testbed.DaemonSet(realName, testbed.LabelReal, tenPercent)); err != nil {
		return err
	}
	_, err := r.fleet.await(ctx, "the pods of real kubelets run", covered(realName, r.real))
	r.kubelet.real.Store(true)
	return err
}

// realRollout is a rollout with what real kubelets write.
func realRollout(ctx context.Context, r *run, m report.Metrics) error {
	return r.replace(ctx, []string{realName}, r.real, m)
}

func endReal(_ context.Context, r *run) error {
	r.kubelet.real.Store(false)
	return nil
}

// replace updates DaemonSets that run on so many nodes each.
func (r *run) replace(ctx context.Context, names []string, nodes int, m report.Metrics) error {
	began := time.Now()
	generations := map[string]int64{}
	for _, name := range names {
		var err error
		if generations[name], err = r.setImage(ctx, name, testbed.Image("2")); err != nil {
			return err
		}
	}
	ended, err := r.fleet.await(ctx, "every pod is replaced", each(names, func(name string) func(*fleet) bool {
		done := covered(name, nodes)
		return func(f *fleet) bool { return f.sets[name].generation >= generations[name] && done(f) }
	}))
	m["time"], m["pods"] = ended.Sub(began).Seconds(), float64(nodes*len(names))
	return err
}
