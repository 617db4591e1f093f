package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"everynode/bench/report"
	"everynode/bench/testbed"
	"everynode/internal/plan"
	"everynode/internal/view"
)

// bareSettings is how many requests the bare client sends at a time, over how
// many connections.
type bareSettings struct{ workers, connections int }

func (b bareSettings) String() string {
	if b.workers == 0 {
		return ""
	}
	return fmt.Sprintf("%d requests at once over %d connections", b.workers, b.connections)
}

func bareCandidates() []bareSettings {
	return []bareSettings{{8, 1}, {16, 1}, {32, 1}, {64, 2}}
}

// bareRun is a run without a controller: its own client creates the pods.
type bareRun struct{ *run }

// measureBare creates the pods of one DaemonSet, encoded beforehand, without a
// controller: no DaemonSet engine can be faster on this machine.
func (r *bareRun) measureBare(ctx context.Context) error {
	if r.bench.bare.workers == 0 {
		if err := r.sweep(ctx); err != nil {
			return err
		}
	}
	pods, err := r.encodePods(ctx, testbed.AgentName, r.size)
	if err != nil {
		return err
	}
	before, err := r.read(ctx)
	if err != nil {
		return err
	}
	took, err := r.post(ctx, testbed.AgentName, pods, r.bench.bare)
	if err != nil {
		return err
	}
	after, err := r.read(ctx)
	if err != nil {
		return err
	}
	m := report.Metrics{"time": took.Seconds(), "running": took.Seconds(), "pods": float64(r.size)}
	r.since(before, after, m)
	for _, name := range []string{"cpu", "peakRSS", "peakAnon", "statusWrites"} {
		delete(m, name) // a bare run has no controller process
	}
	r.record(phaseCoverage, m)
	return nil
}

// sweep finds the best settings, with pods for some of the nodes.
func (r *bareRun) sweep(ctx context.Context) error {
	n := min(r.size, max(r.size/5, 200), 600)
	var best time.Duration
	for i, candidate := range bareCandidates() {
		name := fmt.Sprintf("sweep-%d", i)
		pods, err := r.encodePods(ctx, name, n)
		if err != nil {
			return err
		}
		took, err := r.post(ctx, name, pods, candidate)
		if err != nil {
			return err
		}
		r.say("  bare client, %s: %.0f pods/s", candidate, float64(n)/took.Seconds())
		if best == 0 || took < best {
			best, r.bench.bare = took, candidate
		}
		err = r.Client.CoreV1().Pods(testbed.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)},
			metav1.ListOptions{LabelSelector: testbed.LabelApp + "=" + name})
		if err != nil {
			return fmt.Errorf("remove the pods of the sweep: %w", err)
		}
		if _, err := r.fleet.await(ctx, "the pods of the sweep are gone", running(name, 0)); err != nil {
			return err
		}
	}
	return nil
}

// encodePods creates a DaemonSet, and encodes the pods that it should have on n
// nodes.
func (r *bareRun) encodePods(ctx context.Context, name string, n int) ([][]byte, error) {
	ds, err := r.Client.AppsV1().DaemonSets(testbed.Namespace).Create(ctx, testbed.DaemonSet(name, "", tenPercent), metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("make the DaemonSet %s: %w", name, err)
	}
	ds.APIVersion, ds.Kind = appsv1.SchemeGroupVersion.String(), "DaemonSet"
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), testbed.Protobuf)
	if !ok {
		return nil, fmt.Errorf("client-go cannot encode %s", testbed.Protobuf)
	}
	encoder := scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)
	const revision = "5d8f7c9b6d"
	pods := make([][]byte, n)
	for i := range pods {
		node := testbed.NodeName("0", i)
		pod := view.NewPod(ds, revision, plan.Create{Node: node}, view.PodName(ds, node, revision, "", 0))
		if pods[i], err = runtime.Encode(encoder, pod); err != nil {
			return nil, fmt.Errorf("encode a pod: %w", err)
		}
	}
	return pods, nil
}

// post creates the pods, and returns how long it takes until all of them run.
func (r *bareRun) post(ctx context.Context, name string, pods [][]byte, how bareSettings) (time.Duration, error) {
	var connections []rest.Interface
	for range how.connections {
		client, err := kubernetes.NewForConfig(r.Keys.Config(r.URL, testbed.UserController))
		if err != nil {
			return 0, fmt.Errorf("make the bare client: %w", err)
		}
		connections = append(connections, client.CoreV1().RESTClient())
	}
	all := r.fleet.expect(running(name, len(pods)))
	began := time.Now()
	next := make(chan []byte, len(pods))
	for _, pod := range pods {
		next <- pod
	}
	close(next)
	g, sending := errgroup.WithContext(ctx)
	for i := range how.workers {
		to := connections[i%len(connections)]
		g.Go(func() error {
			for pod := range next {
				if err := to.Post().Namespace(testbed.Namespace).Resource("pods").SetHeader("Content-Type", testbed.Protobuf).Body(pod).Do(sending).Error(); err != nil {
					return fmt.Errorf("create a pod: %w", err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	ended, err := all.await(ctx, r.fleet, "all pods run")
	return ended.Sub(began), err
}
