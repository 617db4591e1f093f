package verbs

import (
	"testing"

	"everynode/internal/cli/console"
)

// chosenCluster is a cluster that these flags choose.
type chosenCluster struct {
	*givenCluster
	ours, kubectls []string
}

func (c *chosenCluster) Flags() (ours, kubectls []string) { return c.ours, c.kubectls }

func TestTyped(t *testing.T) {
	staging := &chosenCluster{ours: []string{"--name=staging"}, kubectls: []string{"--kubeconfig=/data/staging/admin.kubeconfig"}}
	odd := &chosenCluster{ours: []string{"--context=it's $HOME"}, kubectls: []string{"--context=it's $HOME", "--as=system:admin"}}
	for _, c := range []struct {
		cluster                Cluster
		program, command, want string
	}{
		{&givenCluster{}, "everynode", "everynode why ds/a -n b", "everynode why ds/a -n b"},
		{staging, "everynode", "everynode why ds/a -n b", "everynode why ds/a -n b --name=staging"},
		{staging, "everynode", "everynode down; everynode up --daemonset-controller=true",
			"everynode down --name=staging; everynode up --daemonset-controller=true --name=staging"},
		{staging, "everynode", "kubectl describe ds/a -n b", "kubectl describe ds/a -n b --kubeconfig=/data/staging/admin.kubeconfig"},
		{odd, "kubectl everynode", "everynode why ds/a", `kubectl everynode why ds/a --context='it'\''s $HOME'`},
		{odd, "everynode-ctl", "everynode why ds/a", `everynode-ctl why ds/a --context='it'\''s $HOME'`},
		{odd, "everynode-ctl", "kubectl patch x --patch '{\"a\":\"b; c\"}'", `kubectl patch x --patch '{"a":"b; c"}' --context='it'\''s $HOME' --as=system:admin`},
	} {
		to := &console.Console{Program: c.program}
		if got := (access{c.cluster}).typed(to, c.command); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.program, c.command, got, c.want)
		}
	}
}
