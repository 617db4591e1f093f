package addons

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"

	"everynode/deploy/policies"
)

// The versions that a cluster runs are those that are built.
func TestVersionsAreThoseOfTheModules(t *testing.T) {
	for name, module := range map[string][2]string{
		"dns":      {"coredns", "github.com/coredns/coredns"},
		"storage":  {"addons", "github.com/rancher/local-path-provisioner"},
		"metrics":  {"addons", "sigs.k8s.io/metrics-server"},
		"registry": {"registry", "github.com/distribution/distribution/v3"},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", module[0], "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		version := regexp.MustCompile(`(?m)` + regexp.QuoteMeta(module[1]) + ` (v\S+)( // indirect)?$`).FindSubmatch(text)
		i := slices.IndexFunc(All(), func(a Addon) bool { return a.Name == name })
		if i < 0 || version == nil || All()[i].Version != string(version[1]) {
			t.Errorf("%s/go.mod has %s %q; the add-on: %+v", module[0], module[1], version, All()[i])
		}
	}
}

// Every manifest is filled in, every object has a name, and every container that we
// build has the image of the add-on.
func TestManifests(t *testing.T) {
	values := Values{DNSAddress: "10.96.0.10", KubeletAuthorities: "-----BEGIN\nabc=\n-----END\n", Certificate: "YWJj", Registry: "localhost:5000"}
	for _, a := range All() {
		text, err := a.Manifest(values)
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.Contains(text, []byte("{{")) || bytes.Contains(text, []byte("<no value>")) {
			t.Errorf("%s is not filled in", a.Name)
		}
		if strings.HasPrefix(a.Image(), "docker.io/") {
			t.Errorf("%s would make each node's mirror one of Docker Hub", a.Name)
		}
		var image string
		for _, o := range decode(t, a.Name, text) {
			if o.GetKind() == "" || o.GetName() == "" {
				t.Errorf("%s: an object has no kind or name: %v", a.Name, o.Object)
			}
			if o.GetKind() != "Deployment" {
				continue
			}
			image = o.GetAnnotations()[ImageKey]
			containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			if err != nil || len(containers) != 1 || containers[0].(map[string]any)["image"] != a.Image() {
				t.Errorf("%s: the Deployment runs %v, %v", a.Name, containers, err)
			}
		}
		if image != a.Image() { // an add-on that is OnHost has none
			t.Errorf("%s: the Deployment says that it has the image %q, want %q", a.Name, image, a.Image())
		}
	}
}

// TestHostPathPolicyLetsAddonsWrite: --host-path-policy=readonly does not refuse what an add-on needs. Which pods write
// to their node is not in the manifest (storage's are made for each volume), but they all need a privileged namespace.
func TestHostPathPolicyLetsAddonsWrite(t *testing.T) {
	var policy admissionv1.ValidatingAdmissionPolicy
	if err := yaml.Unmarshal(policies.HostPaths, &policy); err != nil {
		t.Fatal(err)
	}
	checked, err := metav1.LabelSelectorAsSelector(policy.Spec.MatchConstraints.NamespaceSelector)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, a := range All() {
		text, err := a.Manifest(Values{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range decode(t, a.Name, text) {
			of := labels.Set(o.GetLabels())
			if o.GetKind() != "Namespace" || of["pod-security.kubernetes.io/enforce"] != "privileged" {
				continue
			}
			found++
			if checked.Matches(labels.Merge(of, labels.Set{"kubernetes.io/metadata.name": o.GetName()})) {
				t.Errorf("%s: the policy of host paths refuses pods of the namespace %s, which has the labels %v", a.Name, o.GetName(), of)
			}
		}
	}
	if found == 0 {
		t.Error("no add-on has a privileged namespace")
	}
}

func decode(t *testing.T, name string, text []byte) (objects []*unstructured.Unstructured) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		objects = append(objects, object)
	}
}

func TestChosen(t *testing.T) {
	for said, want := range map[string]string{
		"":                            "dns storage",
		"metrics":                     "dns storage metrics",
		"-dns -storage":               "",
		"-dns metrics no-such-add-on": "storage metrics",
	} {
		choice := map[string]bool{}
		for name := range strings.FieldsSeq(said) {
			name, off := strings.CutPrefix(name, "-")
			choice[name] = !off
		}
		if got := strings.Join(Names(Chosen(choice)), " "); got != want {
			t.Errorf("%q chooses %q, want %q", said, got, want)
		}
	}
}

// An update of a server does not add a second default class for claims.
func TestOnMachines(t *testing.T) {
	if got := Names(Chosen(OnMachines(nil))); !slices.Equal(got, []string{"dns"}) {
		t.Errorf("a server has %v by default", got)
	}
	said := map[string]bool{"dns": false, "storage": true}
	if got := Names(Chosen(OnMachines(said))); !slices.Equal(got, []string{"storage"}) || len(said) != 2 {
		t.Errorf("it has %v where %v was said", got, said)
	}
}

// TestVolumesAreNotForAll: a local user of a machine cannot enter any volume, not even an existing one, because the
// folder of the volumes lets nobody in.
func TestVolumesAreNotForAll(t *testing.T) {
	i := slices.IndexFunc(All(), func(a Addon) bool { return a.Name == "storage" })
	text, err := All()[i].Manifest(Values{})
	if err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{}
	for _, o := range decode(t, "storage", text) {
		if o.GetKind() == "ConfigMap" {
			for _, name := range []string{"setup", "teardown"} {
				scripts[name], _, _ = unstructured.NestedString(o.Object, "data", name)
			}
		}
	}
	folder := filepath.Join(t.TempDir(), "volumes")
	if err := errors.Join(os.Mkdir(folder, 0o755), os.Chmod(folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	run := func(script, volume string) {
		t.Helper()
		c := exec.Command("sh", "-c", scripts[script])
		c.Env = append(os.Environ(), "VOL_DIR="+volume)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	mode := func(file string) os.FileMode {
		t.Helper()
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	volume := filepath.Join(folder, "pvc-1")
	run("setup", volume)
	if mode(folder) != 0o700 || mode(volume) != 0o777 {
		t.Errorf("the folder has mode %o, the volume, which is for whatever user its pod has, %o", mode(folder), mode(volume))
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	run("teardown", volume)
	if _, err := os.Stat(volume); mode(folder) != 0o700 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder has mode %o, the volume: %v", mode(folder), err)
	}
}
