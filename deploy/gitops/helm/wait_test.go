// Package helm_test asks Helm 3 and Helm 4 whether they would continue to wait for a DaemonSet in the middle of a release. It
// is a separate module, because together they bring some two hundred others.
package helm_test

import (
	"os"
	"strings"
	"testing"

	helm3 "helm.sh/helm/v3/pkg/kube"
	helm4 "helm.sh/helm/v4/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

// record is an object of ../testdata.
type record struct {
	Name   string           `json:"name"`
	Object appsv1.DaemonSet `json:"object"`
}

func records(t *testing.T) (all []record) {
	t.Helper()
	text, err := os.ReadFile("../testdata/daemonsets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &all); err != nil || len(all) < 10 {
		t.Fatalf("%d objects: %v", len(all), err)
	}
	return all
}

// waits reports whether each Helm waits for the DaemonSet: Helm 3 with --wait, and Helm 4 with --wait=legacy.
func waits(t *testing.T, ds *appsv1.DaemonSet) (by3, by4 bool) {
	t.Helper()
	client, info := fake.NewClientset(ds), &resource.Info{Object: ds, Namespace: ds.Namespace, Name: ds.Name}
	checker3, checker4 := helm3.NewReadyChecker(client, t.Logf), helm4.NewReadyChecker(client)
	ready3, err := checker3.IsReady(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	ready4, err := checker4.IsReady(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	return !ready3, !ready4
}

// TestWaits: neither waits for a release of a DaemonSet that is OnDelete. With RollingUpdate both wait until every node has the
// new version, even for a release that has stopped. Helm 4 with --wait uses the library of ../health_test.go.
func TestWaits(t *testing.T) {
	for _, r := range records(t) {
		ds := &r.Object
		unseen := ds.Status.ObservedGeneration != ds.Generation
		outdated := ds.Status.UpdatedNumberScheduled < ds.Status.DesiredNumberScheduled
		few := ds.Status.NumberReady < ds.Status.DesiredNumberScheduled-1
		if ds.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType {
			t.Fatalf("%s is %s", r.Name, ds.Spec.UpdateStrategy.Type)
		}
		if by3, by4 := waits(t, ds); by3 != unseen || by4 != unseen {
			t.Errorf("%s, OnDelete: Helm 3 waits: %v, Helm 4: %v, want %v", r.Name, by3, by4, unseen)
		}
		one := intstr.FromInt32(1)
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one}}
		want := unseen || outdated || few
		if by3, by4 := waits(t, ds); by3 != want || by4 != want {
			t.Errorf("%s, RollingUpdate: Helm 3 waits: %v, Helm 4: %v, want %v", r.Name, by3, by4, want)
		}
		if strings.HasPrefix(r.Name, "Halted") && !want {
			t.Errorf("%s: all nodes have the new version", r.Name)
		}
	}
}
