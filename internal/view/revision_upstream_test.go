//go:build !race

package view

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	appsdefaults "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/daemon/util"
	"sigs.k8s.io/randfill"

	"everynode/internal/plan"
)

// randomSets generates DaemonSets with templates full of random fields.
func randomSets(seed int64, n int, each func(*appsv1.DaemonSet)) {
	fill := filler(seed)
	for range n {
		ds := daemonSet()
		fill.Fill(&ds.Spec.Template)
		each(ds)
	}
}

func filler(seed int64) *randfill.Filler {
	return fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs), rand.NewSource(seed), legacyscheme.Codecs).
		NilChance(0.4).NumElements(0, 2)
}

// TestRevisionDataAgrees: upstream finds its template in our revisions, byte for byte,
// and computes the same hash.
func TestRevisionDataAgrees(t *testing.T) {
	randomSets(1, 300, func(ds *appsv1.DaemonSet) {
		r, err := NewRevision(ds, 7)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := daemon.Match(ds, r); err != nil || !ok {
			t.Fatalf("upstream does not know its template (%v):\n%s", err, r.Data.Raw)
		}
		for _, collisions := range []*int32{nil, ptr(int32(0)), ptr(int32(3))} {
			want := controller.ComputeHash(&ds.Spec.Template, collisions)
			if got := TemplateHash(&ds.Spec.Template, collisions); got != want {
				t.Fatalf("hash is %s, upstream's %s", got, want)
			}
		}
	})
}

// TestDefaultsAgree: a template equals the same template with the API server's
// defaults; and the API server's defaults add nothing to ours, among the fields that
// are set.
func TestDefaultsAgree(t *testing.T) {
	changed := 0
	randomSets(2, 500, func(ds *appsv1.DaemonSet) {
		commonFields(&ds.Spec.Template.Spec)
		before, err := RevisionData(ds)
		if err != nil {
			t.Fatal(err)
		}
		// Defaults apply to what was decoded, not to what Go had in memory.
		if err := reread(ds); err != nil {
			t.Fatal(err)
		}
		appsdefaults.SetObjectDefaults_DaemonSet(ds)
		after, err := RevisionData(ds)
		if err != nil {
			t.Fatal(err)
		}
		if sameDigest(before, after) != sameTemplate(before, after) {
			t.Fatalf("the digests say otherwise of\n%s\n%s", before, after)
		}
		if !sameTemplate(before, after) {
			a, _ := readTemplate(before)
			b, _ := readTemplate(after)
			setTemplateDefaults(a)
			setTemplateDefaults(b)
			t.Fatalf("the server's defaults make it another:\n%s", cmp.Diff(a, b))
		}
		if string(before) != string(after) {
			changed++
		}
		ds.Spec.Template.Spec.Hostname += "x"
		if other, err := RevisionData(ds); err != nil || sameDigest(before, other) {
			t.Fatalf("another template is the same (%v)", err)
		}
	})
	if changed < 100 {
		t.Errorf("defaults changed only %d templates", changed)
	}
}

// TestTemplateDigestAgrees: digests distinguish templates that differ in one field, and
// no others.
func TestTemplateDigestAgrees(t *testing.T) {
	rng := rand.New(rand.NewSource(7))
	same := 0
	var last *appsv1.DaemonSet
	randomSets(6, 800, func(ds *appsv1.DaemonSet) {
		if last != nil {
			other := ds.DeepCopy()
			i := rng.Intn(reflect.TypeFor[corev1.PodSpec]().NumField())
			reflect.ValueOf(&other.Spec.Template.Spec).Elem().Field(i).Set(reflect.ValueOf(last.Spec.Template.Spec).Field(i))
			a, err := RevisionData(ds)
			if err != nil {
				t.Fatal(err)
			}
			b, err := RevisionData(other)
			if err != nil {
				t.Fatal(err)
			}
			want := sameTemplate(a, b)
			if got := sameDigest(a, b); got != want {
				t.Fatalf("%s: the digests say %v, the API %v:\n%s\n%s", reflect.TypeFor[corev1.PodSpec]().Field(i).Name, got, want, a, b)
			}
			if want {
				same++
			}
		}
		last = ds
	})
	if same < 80 || same > 700 {
		t.Errorf("%d of 800 pairs are the same", same)
	}
}

// commonFields clears the fields whose defaults we do not fill in: volume types that
// were removed from Kubernetes or that go to the scheduler, and alpha fields. Images
// get names that can be parsed.
func commonFields(s *corev1.PodSpec) {
	for i := range s.Volumes {
		v := &s.Volumes[i]
		v.ISCSI, v.RBD, v.AzureDisk, v.ScaleIO, v.Ephemeral, v.Image = nil, nil, nil, nil, nil, nil
	}
	s.EphemeralContainers = nil // templates do not have them
	images := []string{"a", "a:latest", "a/b:1", "a:5000/b", "a@sha256:" + strings.Repeat("0", 64), ""}
	for _, containers := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range containers {
			containers[i].Image = images[len(containers[i].Name)%len(images)]
			for j := range containers[i].Env {
				if from := containers[i].Env[j].ValueFrom; from != nil {
					from.FileKeyRef = nil
				}
			}
		}
	}
}

func reread(ds *appsv1.DaemonSet) error {
	data, err := json.Marshal(ds)
	if err != nil {
		return err
	}
	*ds = appsv1.DaemonSet{}
	return json.Unmarshal(data, ds)
}

// TestPodAgrees: our pod, bound or for the scheduler, equals upstream's except for its
// name and the binding.
func TestPodAgrees(t *testing.T) {
	randomSets(3, 300, func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Labels = map[string]string{"app": "agent"}
		generation, err := util.GetTemplateGeneration(ds)
		if err != nil {
			t.Fatal(err)
		}
		template := util.CreatePodTemplate(ds.Spec.Template, generation, "abc")
		unbound := template.DeepCopy()
		unbound.Spec.Affinity = util.ReplaceDaemonSetPodNodeNameNodeAffinity(unbound.Spec.Affinity, "n1")
		template.Spec.NodeName = "n1"
		for byScheduler, upstream := range map[bool]*corev1.PodTemplateSpec{true: unbound, false: &template} {
			want, err := controller.GetPodFromTemplate(upstream, ds, metav1.NewControllerRef(ds, controllerKind()))
			if err != nil {
				t.Fatal(err)
			}
			want.Name, want.Namespace = "p", ds.Namespace
			got := NewPod(ds, "abc", plan.Create{Node: "n1", ByScheduler: byScheduler}, "p")
			if !apiequality.Semantic.DeepEqual(want, got) {
				t.Fatalf("by scheduler %v (-upstream +ours):\n%s", byScheduler, cmp.Diff(want, got))
			}
			node, _ := util.GetTargetNodeName(want)
			if v := Pod(got); v.Node != node || !util.IsPodUpdated(got, v.Hash, nil) {
				t.Fatalf("the pod reads as %+v, upstream finds node %q", v, node)
			}
		}
	})
}

// TestTargetNodeAgrees compares which node a pod is meant for.
func TestTargetNodeAgrees(t *testing.T) {
	fill := filler(4)
	for range 500 {
		pod := &corev1.Pod{}
		fill.Fill(&pod.Spec.Affinity)
		if r := requiredAffinity(pod.Spec.Affinity); r != nil {
			for i := range r.NodeSelectorTerms {
				for j := range r.NodeSelectorTerms[i].MatchFields {
					f := &r.NodeSelectorTerms[i].MatchFields[j]
					f.Key, f.Operator = "metadata.name", corev1.NodeSelectorOpIn
				}
			}
		}
		want, err := util.GetTargetNodeName(pod)
		if got := TargetNode(pod); got != want || err != nil && got != "" {
			t.Fatalf("%q, upstream %q (%v)", got, want, err)
		}
	}
}
