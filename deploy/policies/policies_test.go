package policies

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	v1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	defaults "k8s.io/kubernetes/pkg/apis/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// TestDefaultsAreWritten: the policies say themselves what the API server would add to them. A tool that keeps a cluster in sync with git
// replaces whole lists: if the API server adds a field to an item, the tool takes the list for changed, after every sync.
func TestDefaultsAreWritten(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, defaults.RegisterDefaults} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	policies := 0
	for _, file := range files(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var written map[string]any
		if err := yaml.Unmarshal(text, &written); err != nil {
			t.Fatal(err)
		}
		if written["apiVersion"] != v1.SchemeGroupVersion.String() {
			continue
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		scheme.Default(object)
		served, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			t.Fatal(err)
		}
		delete(served, "status")
		policies++
		for _, path := range added("", written, served, false) {
			t.Errorf("%s: the API server adds %s", file, path)
		}
	}
	if policies < 10 {
		t.Errorf("%d policies and bindings", policies)
	}
}

// files returns the manifests of this folder, and of the policies that the chart installs as well.
func files(t *testing.T) (all []string) {
	t.Helper()
	for _, pattern := range []string{"*.yaml", "../helm/everynode-controller/policies/*/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// added returns the paths of what is only in after. Empty selectors count only in lists: elsewhere they stay when a tool applies the
// object without them.
func added(path string, before, after any, inList bool) (paths []string) {
	switch after := after.(type) {
	case map[string]any:
		was, ok := before.(map[string]any)
		if !ok && (inList || len(after) > 0) {
			return []string{path}
		}
		for key, value := range after {
			paths = append(paths, added(path+"."+key, was[key], value, inList)...)
		}
	case []any:
		was, ok := before.([]any)
		if !ok || len(was) != len(after) {
			return []string{path}
		}
		for i, value := range after {
			paths = append(paths, added(path+"["+strconv.Itoa(i)+"]", was[i], value, true)...)
		}
	default:
		if before == nil && after != nil {
			return []string{path}
		}
	}
	slices.Sort(paths)
	return paths
}

func TestAddedFinds(t *testing.T) {
	list := func(item map[string]any) map[string]any { return map[string]any{"list": []any{item}} }
	for _, c := range []struct {
		before, after map[string]any
		want          []string
	}{
		{map[string]any{"a": "b"}, map[string]any{"a": "b", "c": map[string]any{}}, nil},
		{map[string]any{}, map[string]any{"a": "b"}, []string{".a"}},
		{list(map[string]any{"a": "b"}), list(map[string]any{"a": "b"}), nil},
		{list(map[string]any{"a": "b"}), list(map[string]any{"a": "b", "scope": "*"}), []string{".list[0].scope"}},
		{list(map[string]any{}), list(map[string]any{"selector": map[string]any{}}), []string{".list[0].selector"}},
	} {
		if got := added("", c.before, c.after, false); !slices.Equal(got, c.want) {
			t.Errorf("from %v to %v: %v, want %v", c.before, c.after, got, c.want)
		}
	}
}
