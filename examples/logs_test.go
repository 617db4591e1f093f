package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestGatewayKeepsItsFile: a gateway that starts again neither empties its file nor has another volume, and two of them
// never write to the same file.
func TestGatewayKeepsItsFile(t *testing.T) {
	file := filepath.Join("agents", "log-collector", "gateway.yaml")
	var config struct {
		Exporters struct {
			File struct {
				Path   string
				Append bool
			}
		}
	}
	readConfig(t, file, "config.yaml", &config)
	if to := config.Exporters.File; to.Path != "/logs/logs.jsonl" || !to.Append {
		t.Errorf("the exporter is %+v, which empties the file at each start", to)
	}
	var gateway appsv1.Deployment
	readObject(t, file, "Deployment", &gateway)
	if got := gateway.Spec.Strategy.Type; got != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("the strategy is %q: two gateways would write to one file", got)
	}
	var claim corev1.PersistentVolumeClaim
	readObject(t, file, "PersistentVolumeClaim", &claim)
	for _, v := range gateway.Spec.Template.Spec.Volumes {
		if v.Name == "logs" && (v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != claim.Name) {
			t.Errorf("the file is in %+v, which ends with the pod", v.VolumeSource)
		}
	}
}

// TestFluentBitKeepsItsLines: what Fluent Bit has read is on the node until it is sent, in a buffer that cannot fill the
// node's disk.
func TestFluentBitKeepsItsLines(t *testing.T) {
	var config struct {
		Service  map[string]any
		Pipeline struct{ Inputs, Outputs []map[string]any }
	}
	readConfig(t, filepath.Join("agents", "log-collector", "fluent-bit", "daemonset.yaml"), "fluent-bit.yaml", &config)
	if path, _ := config.Service["storage.path"].(string); !strings.HasPrefix(path, "/state/") {
		t.Errorf("the buffer is in %q, which is not on the node", path)
	}
	for _, input := range config.Pipeline.Inputs {
		if input["storage.type"] != "filesystem" {
			t.Errorf("%s keeps what it has read in memory: %v", input["name"], input["storage.type"])
		}
	}
	for _, output := range config.Pipeline.Outputs {
		if output["storage.total_limit_size"] == nil {
			t.Errorf("%s may fill the node's disk", output["name"])
		}
	}
}

// readConfig reads a file in the ConfigMap of a manifest.
func readConfig(t *testing.T, manifest, name string, config any) {
	t.Helper()
	var object corev1.ConfigMap
	readObject(t, manifest, "ConfigMap", &object)
	if err := yaml.Unmarshal([]byte(object.Data[name]), config); err != nil {
		t.Fatalf("%s: %s: %v", manifest, name, err)
	}
}

// readObject reads the object of a kind in a manifest with several.
func readObject(t *testing.T, manifest, kind string, object any) {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains("\n"+document, "\nkind: "+kind+"\n") {
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%s: %v", manifest, err)
		}
		return
	}
	t.Fatalf("%s has no %s", manifest, kind)
}
