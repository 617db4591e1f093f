package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	tailLines = 40 // of each log of a failed script
	purgeTime = 2 * time.Minute
)

// clusterKey is where a script's cluster is in testscript's values.
type clusterKey struct{}

// cluster is what a script's commands know about its cluster, and what the script asked
// them to remember.
type cluster struct {
	t         testing.TB
	everynode string // the program
	dataDir   string
	workDir   string // the script's own folder
	env       []string
	config    string // the administrator's kubeconfig
	namespace string // where the script's pods are

	newPaths []string          // examplePaths that did not exist before the script
	before   traces            // what the machine had before the script
	marked   map[string]traces // what existed at `leftovers before`, by machine; "" is this one
	pods     map[string]podSet
	rollout  *rollout       // nil: no rollout is watched
	dead     map[string]int // processes that the script killed, by "NODE PROGRAM"
	servers  []string       // several API servers, as HOST:PORT; the first that answers is asked
	ledger   *ledger        // nil: nobody writes

	registries map[string]tls.Certificate // by address
}

func newCluster(env *testscript.Env, bin, dataDir string) (*cluster, error) {
	t, ok := env.T().(testing.TB)
	if !ok {
		return nil, fmt.Errorf("%T is not a testing.TB", env.T())
	}
	c := &cluster{
		t:         t,
		everynode: filepath.Join(bin, "everynode"),
		dataDir:   dataDir,
		workDir:   env.WorkDir,
		env:       append([]string(nil), env.Vars...),
		namespace: metav1.NamespaceDefault,
		pods:      map[string]podSet{},

		registries: map[string]tls.Certificate{},
	}
	return c, c.noteMachine()
}

// noteMachine records what exists on this machine before the cluster.
func (c *cluster) noteMachine() (err error) {
	c.newPaths = slices.DeleteFunc(examplePaths(), exists)
	c.before, err = c.traces()
	return err
}

// clusterOf returns the cluster of a script.
func clusterOf(ts *testscript.TestScript) *cluster {
	c, ok := ts.Value(clusterKey{}).(*cluster)
	if !ok {
		ts.Fatalf("the script has no cluster: this is a defect of the test")
	}
	c.config = adminConfig(c.dataDir)
	if set := ts.Getenv("KUBECONFIG"); set != "" {
		c.config = set
	}
	c.servers = strings.Fields(ts.Getenv("SERVERS"))
	return c
}

func adminConfig(dataDir string) string { return filepath.Join(dataDir, "admin.kubeconfig") }

// restConfig returns the configuration of the cluster's administrator.
func (c *cluster) restConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.config)
	if err == nil && len(c.servers) > 0 {
		config.Dial = dialAny(c.servers)
		config.ServerName = "kubernetes"
	}
	return config, err
}

// client talks to the cluster's API server as its administrator.
func (c *cluster) client() (kubernetes.Interface, error) {
	config, err := c.restConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// tearDown ends the script's cluster, and fails the script when something is left
// behind.
func (c *cluster) tearDown() {
	if c.rollout != nil {
		c.rollout.stop()
	}
	if c.t.Failed() {
		c.report()
	}
	c.remove()
}

// remove ends the cluster, whatever state it is in; nothing of it may be left behind.
func (c *cluster) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), purgeTime)
	defer cancel()
	if out, err := c.run(ctx, "down", "--purge"); err != nil {
		c.t.Errorf("everynode down --purge: %v\n%s", err, out)
	}
	for _, path := range c.newPaths {
		if err := os.RemoveAll(path); err != nil {
			c.t.Errorf("delete what the example keeps: %v", err)
		}
	}
	if err := waitForTraces(c.before, c.traces); err != nil {
		c.t.Errorf("the cluster leaves something behind: %v", err)
		return // the data directory may still hold mounts of the machine's folders
	}
	if err := os.RemoveAll(c.dataDir); err != nil {
		c.t.Errorf("delete the data directory: %v", err)
	}
}

// run runs everynode outside the script.
func (c *cluster) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.everynode, args...)
	cmd.Env = c.env
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// report prints what helps to understand why a script failed.
func (c *cluster) report() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"status"},
		{"kubectl", "--request-timeout=5s", "get", "nodes,daemonsets,pods", "-A", "-o", "wide"},
		{"kubectl", "--request-timeout=5s", "get", "events", "-A", "--sort-by=.metadata.creationTimestamp"},
	} {
		if args[0] == "kubectl" && c.config != "" {
			args = append(args, "--kubeconfig="+c.config)
		}
		out, err := c.run(ctx, args...)
		c.t.Logf("everynode %s: %v\n%s", strings.Join(args, " "), err, lastLines(out))
	}
	for _, pattern := range []string{c.dataDir + "/*.log", c.dataDir + "/nodes/*/*.log", c.workDir + "/*/*.log", c.workDir + "/*/var/log/pods/*/*/*.log"} {
		logs, err := filepath.Glob(pattern)
		if err != nil {
			c.t.Logf("find the logs: %v", err)
		}
		for _, log := range logs {
			text, err := os.ReadFile(log)
			if err != nil {
				c.t.Logf("%v", err)
				continue
			}
			c.t.Logf("the end of %s:\n%s", log, lastLines(string(bytes.ToValidUTF8(text, []byte("?")))))
		}
	}
}

func lastLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "")
}
