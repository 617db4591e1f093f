package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"everynode/bench/testbed"
	"everynode/internal/fleetview"
	"everynode/internal/ui"
	"everynode/internal/view"
)

// The recording of a scenario can be played, and an existing recording is not overwritten.
func TestRecorded(t *testing.T) {
	ds := testbed.DaemonSet("agent-crash", "", intstr.FromInt32(1))
	ds.Namespace, ds.UID = testbed.Namespace, "1"
	client := fake.NewClientset(ds)
	kinds := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		view.ReleaseResource(view.RolloutResource): "DaemonSetRolloutList", view.ReleaseResource(view.PolicyResource): "RolloutPolicyList"})
	dir := t.TempDir()
	r := &run{outages: &outages{settings: settings{record: dir}}, Cluster: &testbed.Cluster{Client: client}, system: everynode,
		fleet: newFleet(client, 1, 1), releases: &releases{client: kinds}}
	appear := func() error {
		_, err := client.CoreV1().Nodes().Create(t.Context(), testbed.NewNode("node-1", 0, nil), metav1.CreateOptions{})
		return err
	}
	if err := r.recorded(t.Context(), "crash", appear); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, "crash-everynode.fleet.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	recording, err := ui.Read(file, ui.Playing{Speed: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var nodes []int
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	err = recording.Follow(ctx, func(s *fleetview.State) {
		if nodes = append(nodes, len(s.Nodes)); len(nodes) == 2 {
			stop()
		}
	}, nil)
	if err != nil {
		t.Error(err)
	}
	if len(nodes) != 2 || nodes[0] != 0 || nodes[1] != 1 {
		t.Errorf("nodes as they were recorded: %v", nodes)
	}
	if err := r.recorded(t.Context(), "crash", appear); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("again: %v", err)
	}
}
