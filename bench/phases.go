package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/bench/report"
	"everynode/bench/testbed"
	"everynode/internal/view"
)

// The phases, in order.
const (
	phaseCoverage   = "coverage"
	phaseJoins      = "joins"
	phaseBurst      = "burst"
	phaseFlips      = "flips"
	phaseRollout    = "rollout"
	phaseReal       = "real"
	phaseSerial     = "serial"
	phaseHeartbeats = "heartbeats"
	phaseLabels     = "labels"
	phaseMany       = "many"
	phaseLeader     = "leader"
	phaseForeign    = "foreign"
)

// phase is something that happens to the cluster. before and after are not measured. The time until the controllers
// have come to rest is.
type phase struct {
	name          string
	before, after func(context.Context, *run) error
	work          func(context.Context, *run, report.Metrics) error
	timesOnly     bool // its processes come and go, so processor time is not measured
	apart         bool // it measures a different cluster from the others, so memory is not measured
	// once is whether only the first repetition measures it: it measures processor time, which varies little.
	once bool
}

func phases() []phase {
	return []phase{
		{name: phaseCoverage, work: coverNodes},
		{name: phaseJoins, work: joinOneByOne, after: removeJoined},
		{name: phaseBurst, work: joinAtOnce, after: removeJoined},
		{name: phaseFlips, before: prepareFlips, work: flipLabels, after: undoFlips},
		{name: phaseRollout, work: oneRollout},
		{name: phaseReal, before: prepareReal, work: realRollout, after: endReal, once: true},
		{name: phaseSerial, before: prepareSerial, work: serialRollout},
		{name: phaseHeartbeats, work: beatHearts, once: true},
		{name: phaseLabels, before: prepareIdle, work: labelEveryNode, once: true},
		{name: phaseMany, before: prepareIdle, work: joinMany},
		{name: phaseLeader, work: changeLeader, timesOnly: true},
		// This is the last phase: its pods stay, and would cost the others time and memory.
		{name: phaseForeign, before: prepareForeign, work: foreignChanges, once: true, apart: true},
	}
}

func phaseNames() (names []string) {
	for _, p := range phases() {
		names = append(names, p.name)
	}
	return names
}

func (r *run) runPhases(ctx context.Context, wanted []string) error {
	for _, p := range phases() {
		out := !slices.Contains(wanted, p.name) || p.once && r.repetition > 0 || r.system.only != nil && !slices.Contains(r.system.only, p.name)
		if p.name != phaseCoverage && out {
			continue
		}
		if err := r.measure(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (r *run) measure(ctx context.Context, p phase) error {
	if p.before != nil {
		if err := p.before(ctx, r); err != nil {
			return err
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	before, err := r.read(ctx)
	if err != nil {
		return err
	}
	m := report.Metrics{}
	if err := p.work(ctx, r, m); err != nil {
		return errors.Join(err, testbed.Alive(append(r.processes, r.API, r.Etcd)...))
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if !p.timesOnly {
		after, err := r.read(ctx)
		if err != nil {
			return err
		}
		r.since(before, after, m)
	}
	if p.apart {
		delete(m, "peakRSS")
		delete(m, "peakAnon")
	}
	r.record(p.name, m)
	if p.after != nil {
		if err := p.after(ctx, r); err != nil {
			return err
		}
		return r.settle(ctx)
	}
	return nil
}

// record stores the figures of a phase.
func (r *run) record(phase string, m report.Metrics) {
	s := report.Sample{System: r.system.name, Repetition: r.repetition, Nodes: r.size, Phase: phase, Metrics: m}
	r.samples = append(r.samples, s)
	r.say("%-3s %d/%d  %d nodes  %-10s %s", s.System, s.Repetition+1, r.repetitions, s.Nodes, s.Phase, m.Short())
}

var tenPercent = intstr.FromString("10%")

func (r *run) createSet(ctx context.Context, ds *appsv1.DaemonSet) error {
	switch {
	case r.system.policy:
		ds.Annotations = map[string]string{view.PolicyAnnotation: policyName}
	case r.system.inPlace:
		ds.Annotations = map[string]string{view.UpdateAnnotation: view.InPlaceIfPossible}
	}
	if _, err := r.Client.AppsV1().DaemonSets(testbed.Namespace).Create(ctx, ds, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the DaemonSet %s: %w", ds.Name, err)
	}
	return nil
}

// setImage changes the template's image, and returns the new generation.
func (r *run) setImage(ctx context.Context, name, image string) (int64, error) {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"agent","image":%q}]}}}}`, image)
	ds, err := r.Client.AppsV1().DaemonSets(testbed.Namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return 0, fmt.Errorf("change the image of %s: %w", name, err)
	}
	return ds.Generation, nil
}

// setLabel sets a label of a node, or removes it if value is "null".
func (r *run) setLabel(ctx context.Context, node, label, value string) error {
	if value != "null" {
		value = fmt.Sprintf("%q", value)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, label, value)
	err := r.Client.CoreV1().RESTClient().Patch(types.MergePatchType).Resource("nodes").Name(node).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("label node %s: %w", node, err)
	}
	return nil
}
