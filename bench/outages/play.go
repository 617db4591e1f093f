package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/bench/testbed"
	"everynode/internal/view"
)

const (
	// setupTime is how long a fleet may take to be well before something goes wrong, and to be empty afterwards.
	setupTime = 3 * time.Minute
	// recoveryTime is how long a fleet is watched after the bad version was taken back, on the time scale.
	recoveryTime = 40 * time.Minute
)

// fleetShare is how many nodes may be down at a time, in the manifests for both systems.
var fleetShare = intstr.FromString("10%")

// play creates a DaemonSet that works well on all nodes, runs the scenario, and removes the DaemonSet.
func (r *run) play(ctx context.Context, s scenario) (*result, error) {
	name := "agent-" + s.Name
	if err := r.cover(ctx, name, s); err != nil {
		return nil, err
	}
	out := &result{Scenario: s.Name, System: r.system}
	if err := r.recorded(ctx, s.Name, func() error { return r.measure(ctx, name, s, out) }); err != nil {
		return nil, err
	}
	return out, r.clear(ctx, name)
}

// measure does what the scenario says, and takes it back.
func (r *run) measure(ctx context.Context, name string, s scenario, out *result) error {
	r.fleet.kubelets.is(s.bad())
	r.fleet.change(func() { r.fleet.tally.begin(s.counted()...) })
	began, err := r.breakIt(ctx, name, s, out)
	if err != nil {
		return err
	}
	if err := r.fleet.watchFor(ctx, r.fleet.kubelets.scaled(s.Observe)-time.Since(began)); err != nil {
		return err
	}
	r.fleet.change(func() {
		out.see(s, r.fleet.tally, began, time.Now(), r.real)
		if s.Kind == dependency {
			r.fleet.tally.begin() // the scenario's version is a good one
		}
	})
	out.Phase = r.phase(ctx, name)
	return r.takeBack(ctx, name, s, out)
}

// real returns how long something would have taken on a real fleet.
func (r *run) real(d time.Duration) time.Duration { return time.Duration(float64(d) * r.scale) }

// bad returns the behaviour of the scenario's versions, by image.
func (s *scenario) bad() map[string]behaviour {
	versions := map[string]behaviour{}
	if s.Kind == release {
		for i := range max(1, s.Versions) {
			versions[testbed.Image(fmt.Sprint(2+i))] = s.Bad
		}
	}
	return versions
}

// counted returns the images whose nodes count as exposed.
func (s *scenario) counted() (images []string) {
	for v := range s.bad() {
		images = append(images, v)
	}
	if s.Kind != labels && s.Kind != release {
		images = append(images, testbed.Image("2"))
	}
	return images
}

// cover creates the DaemonSet of a scenario, and returns when it works well on all nodes.
func (r *run) cover(ctx context.Context, name string, s scenario) error {
	ds := testbed.DaemonSet(name, "", fleetShare)
	if s.Kind == labels {
		ds = testbed.DaemonSet(name, testbed.LabelSerial, fleetShare)
	}
	ds.Annotations = map[string]string{view.PolicyAnnotation: policyName}
	if _, err := r.Client.AppsV1().DaemonSets(testbed.Namespace).Create(ctx, ds, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the DaemonSet %s: %w", name, err)
	}
	if err := r.fleet.await(ctx, setupTime, "all nodes have a working pod", (*tally).well); err != nil {
		return err
	}
	if r.system == everynode {
		return r.releases.idle(ctx, name)
	}
	return nil
}

// breakIt does what goes wrong, and returns when that began.
func (r *run) breakIt(ctx context.Context, name string, s scenario, out *result) (began time.Time, err error) {
	began = time.Now()
	switch s.Kind {
	case selector:
		return began, r.change(ctx, name, map[string]any{"nodeSelector": map[string]any{"node.example.com/pol": "general-0"}}, "2")
	case labels:
		return began, r.label(ctx, "null")
	case dependency:
		return r.outage(ctx, name, out)
	}
	for i := range max(1, s.Versions) {
		if i > 0 {
			if err := r.fleet.watchFor(ctx, r.fleet.kubelets.scaled(releaseEvery)); err != nil {
				return began, err
			}
		}
		if err := r.change(ctx, name, map[string]any{}, fmt.Sprint(2+i)); err != nil {
			return began, err
		}
	}
	return began, nil
}

// outage releases a good version, and takes away what all agents need once some nodes have it. It returns when that
// was.
func (r *run) outage(ctx context.Context, name string, out *result) (began time.Time, err error) {
	if err := r.change(ctx, name, map[string]any{}, "2"); err != nil {
		return began, err
	}
	enough := max(1, int(outageAt*float64(r.nodes)))
	err = r.fleet.await(ctx, r.fleet.kubelets.scaled(recoveryTime), "the release is in its middle", func(t *tally) bool { return len(t.exposed) >= enough })
	if err != nil {
		return began, err
	}
	began = time.Now()
	r.fleet.change(func() { out.Before = len(r.fleet.tally.exposed) })
	return began, r.fleet.kubelets.allUnready(ctx, true)
}

// change releases a version, and changes these fields of the pods.
func (r *run) change(ctx context.Context, name string, pods map[string]any, version string) error {
	pods["containers"] = []any{map[string]any{"name": "agent", "image": testbed.Image(version)}}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": pods}}})
	if err != nil {
		return fmt.Errorf("encode a template: %w", err)
	}
	_, err = r.Client.AppsV1().DaemonSets(testbed.Namespace).Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change the template of %s: %w", name, err)
	}
	return nil
}

// label sets the label of the nodes that lose it to a value, or removes it ("null").
func (r *run) label(ctx context.Context, value string) error {
	if value != "null" {
		value = fmt.Sprintf("%q", value)
	}
	body := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, testbed.LabelSerial, value)
	return testbed.Parallel(ctx, int(lostShare*float64(r.nodes)), func(ctx context.Context, i int) error {
		node := testbed.NodeName("0", i)
		if _, err := r.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("label node %s: %w", node, err)
		}
		return nil
	})
}

// phase returns the phase and reason of our release; "" for upstream.
func (r *run) phase(ctx context.Context, name string) string {
	if r.system != everynode {
		return ""
	}
	s, err := r.releases.get(ctx, name)
	if err != nil {
		return "unknown"
	}
	if s.Reason == "" {
		return s.Phase
	}
	return s.Phase + ", " + s.Reason
}

// takeBack undoes what went wrong, and measures how long it takes until all nodes work well.
func (r *run) takeBack(ctx context.Context, name string, s scenario, out *result) error {
	began := time.Now()
	var err error
	switch s.Kind {
	case labels:
		out.By, err = "label", r.label(ctx, "true")
	case dependency:
		out.By, err = "dependency", r.fleet.kubelets.allUnready(ctx, false)
	default:
		out.By, err = r.revert(ctx, name)
	}
	if err != nil {
		return err
	}
	err = r.fleet.await(ctx, r.fleet.kubelets.scaled(recoveryTime), "all is well", (*tally).well)
	if errors.Is(err, errTooLate) {
		out.Never = true
		r.fleet.change(func() { out.Left, out.LeftBad = r.fleet.tally.without(), r.fleet.tally.badPods })
		return nil
	}
	out.Recovery = r.real(time.Since(began))
	return err
}

// revert takes a release back: ours by abort if one is under way, otherwise by the template.
func (r *run) revert(ctx context.Context, name string) (by string, err error) {
	if r.system == everynode {
		if asked, err := r.releases.abort(ctx, name); asked || err != nil {
			return "abort", err
		}
	}
	return "template", r.change(ctx, name, map[string]any{"nodeSelector": nil}, "1")
}

// clear removes the DaemonSet and its pods, and waits until every node is up.
func (r *run) clear(ctx context.Context, name string) error {
	apps, core := r.Client.AppsV1(), r.Client.CoreV1()
	if err := apps.DaemonSets(testbed.Namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("remove the DaemonSet %s: %w", name, err)
	}
	r.fleet.kubelets.is(nil)
	for {
		pods, err := core.Pods(testbed.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list the pods that are left: %w", err)
		}
		err = testbed.Parallel(ctx, len(pods.Items), func(ctx context.Context, i int) error {
			err := core.Pods(testbed.Namespace).Delete(ctx, pods.Items[i].Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("remove the pods that are left: %w", err)
		}
		if len(pods.Items) == 0 {
			break
		}
	}
	if r.system == everynode {
		if err := r.releases.forget(ctx, name); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove the DaemonSetRollout %s: %w", name, err)
		}
	}
	return r.fleet.await(ctx, setupTime, "the fleet is empty, and every node is up", func(t *tally) bool { return len(t.pods) == 0 && t.up() })
}
