package cli

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"everynode/internal/cli/localcluster"
)

const fileHead = "apiVersion: everynode.io/v1alpha1\nkind: Cluster\n"

func TestClusterFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                        `it is apiVersion "", kind ""`,
		"apiVersion: v9\nkind: Cluster\n":                         `it is apiVersion "v9"`,
		fileHead + "---\n" + fileHead:                             "more than one document",
		fileHead + "nods: []":                                     `unknown field "nods"`,
		fileHead + "publish: []\npublish: []":                     `already set in map`,
		fileHead + "daemonSetController: 1":                       `cannot unmarshal number`,
		fileHead + "nodes: [{name: a}, {name: a}]":                "node a is there twice",
		fileHead + "nodes: [{labels: {'not a label': x}}]":        "node node-1: labels: Invalid value",
		fileHead + "nodes: [{labels: {a: 'not a value'}}]":        "node node-1: labels: Invalid value",
		fileHead + "nodes: [{taints: [{key: a, effect: Never}]}]": `taints[0].effect: Unsupported value: "Never"`,
		fileHead + "nodes: [{taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoExecute}]}]": "Duplicate value",
		fileHead + "nodes: [{cpu: many}]": "node node-1: --node-cpu many",
	} {
		if _, err := parseClusterFile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// The example in docs/local-cluster.md is valid.
func TestExampleClusterFile(t *testing.T) {
	f, err := readClusterFile("../../examples/cluster.yaml", nil)
	if err != nil || len(f.Nodes) != 3 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestClusterFileFillsFlags(t *testing.T) {
	f, err := parseClusterFile([]byte(fileHead + "nodes: []\nsimulate: {nodes: 5, start: 3s, jitter: 50%, fail: 1%, seed: 7}\nhostPathPolicy: readonly\naudit: true\ncni: none\nkubeProxy: false\ncontainerdConfig: c.toml\nwithout: [dns]\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := upCommand{cluster: &target{}}.command()
	if err := c.Flags().Parse([]string{"--simulate-start", "9s"}); err != nil {
		t.Fatal(err)
	}
	if err := f.fill(c.Flags()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"nodes": "0", "simulate": "5", "simulate-start": "9s", "simulate-jitter": "50%", "simulate-fail": "crash:1%", "simulate-seed": "7",
		localcluster.FlagHostPaths: "readonly", localcluster.FlagWithout: "[dns]", localcluster.FlagEngine: "true", localcluster.FlagAudit: "true", localcluster.FlagCNI: "none", localcluster.FlagKubeProxy: "false",
		localcluster.FlagContainerd: "c.toml",
	} {
		if got := c.Flags().Lookup(name).Value.String(); !strings.HasPrefix(got, want) {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
	bad, err := parseClusterFile([]byte(fileHead + "simulate: {nodes: 1, start: soon}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.fill(upCommand{cluster: &target{}}.command().Flags()); err == nil || !strings.Contains(err.Error(), "simulate.start") {
		t.Errorf("a start of \"soon\": %v", err)
	}
	both := &clusterFile{Nodes: []localcluster.NodeSpec{{Name: "a"}}}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("nodes", "", "")
	if err := errorsOf(flags.Set("nodes", "3"), both.fill(flags)); err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("--nodes beside the file's nodes: %v", err)
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
