package localcluster

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// TestChooseContainerd: a file of containerd's settings is kept for every start of a node, and changes only while no node
// runs.
func TestChooseContainerd(t *testing.T) {
	dir := t.TempDir()
	m := &Cluster{Cluster: &local.Cluster{
		DataDir: dir, Gateway: netip.MustParseAddr("10.0.0.1"),
		Subnet: netip.MustParsePrefix("10.0.0.0/24"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
	}}
	n, err := m.AddNode("node-1", local.Size{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(m.agent(n).Argv, "--"+FlagContainerd) {
		t.Error("an agent gets settings that nobody gave")
	}
	file := filepath.Join(dir, "mine.toml")
	choose := func(text string) error {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return (choosing{m, Wanted{Containerd: file}}).containerd()
	}
	if err := choose("version = 3\n"); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "containerd.toml")
	argv := m.agent(n).Argv
	if i := slices.Index(argv, "--"+FlagContainerd); i < 0 || argv[i+1] != kept {
		t.Errorf("the agent is started as %q", argv)
	}
	if err := os.MkdirAll(filepath.Dir(m.AgentLock("node-1")), 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := datadir.Lock(m.AgentLock("node-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}()
	if err := choose("version = 3\n"); err != nil {
		t.Errorf("as it is: %v", err)
	}
	if err := choose("version = 3\noom_score = 1\n"); !errors.Is(err, errOtherContainerd) {
		t.Errorf("while a node runs: %v", err)
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "version = 3\n" {
		t.Errorf("kept is %q, %v", text, err)
	}
}
