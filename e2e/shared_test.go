package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	startTime = 10 * time.Minute // for `everynode up`, which has a timeout of its own
	emptyTime = 2 * time.Minute  // for everything in a namespace to end
)

// sharedCluster is the cluster of the scripts in testdata/shared: node-1 to node-3, made for the first of
// them. Each script has its own namespace, which is deleted after it; what it changes elsewhere in the
// cluster it must put back. After a script that fails or leaves something changed, the next one gets a new
// cluster.
type sharedCluster struct {
	bin, home string
	cluster   *cluster // nil: there is none yet
}

// runShared runs the scripts of a folder on one cluster.
func runShared(t *testing.T, bin, dir string) {
	s := &sharedCluster{bin: bin, home: t.TempDir()}
	t.Cleanup(func() { s.remove(t) })
	runScripts(t, testscript.Params{Dir: dir, Setup: s.setUp})
}

func (s *sharedCluster) setUp(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("%T is not a testing.TB", env.T())
	}
	if s.cluster == nil {
		if err := s.start(t); err != nil {
			return err
		}
	}
	dataDir := s.cluster.dataDir
	if err := setVariables(env, s.bin, dataDir); err != nil {
		return err
	}
	c := &cluster{t: t, everynode: s.cluster.everynode, dataDir: dataDir, workDir: env.WorkDir, pods: map[string]podSet{}}
	c.namespace = strings.ReplaceAll(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), "_", "-")
	c.config = filepath.Join(env.WorkDir, ".kubeconfig")
	env.Setenv("NAMESPACE", c.namespace)
	env.Setenv("KUBECONFIG", c.config)
	c.env = slices.Clone(env.Vars)
	if err := configIn(adminConfig(dataDir), c.config, c.namespace); err != nil {
		return err
	}
	before, err := c.state()
	if err != nil {
		return err
	}
	if err := c.makeNamespace(); err != nil {
		return err
	}
	env.Values[clusterKey{}] = c
	env.Defer(func() { s.leave(c, before) })
	return nil
}

// start makes the cluster, for the script of t.
func (s *sharedCluster) start(t testing.TB) error {
	data, err := os.MkdirTemp("", "ev")
	if err != nil {
		return err
	}
	c := &cluster{t: t, everynode: filepath.Join(s.bin, "everynode"), dataDir: data, workDir: s.home}
	vars := variables(s.bin, data, s.home)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		c.env = append(c.env, name+"="+vars[name])
	}
	if err := c.noteMachine(); err != nil {
		return errors.Join(err, os.Remove(data))
	}
	s.cluster = c
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	began := time.Now()
	if out, err := c.run(ctx, "up", "--detach"); err != nil {
		c.config = adminConfig(data)
		c.report()
		s.remove(t)
		return fmt.Errorf("everynode up --detach: %w\n%s", err, out)
	}
	t.Logf("the cluster of the scripts in shared: %.1f s", time.Since(began).Seconds())
	c.config = adminConfig(data)
	if err := c.finished(ctx); err != nil {
		return fmt.Errorf("the cluster does not come to rest: %w", err)
	}
	return nil
}

// finished returns when everything in a new cluster has been created: add-ons are created in parallel, and a
// node loses its last taint after it is Ready.
func (c *cluster) finished(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	last := traces{}
	return wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		now, err := c.state()
		if err != nil {
			return false, err
		}
		tainted := slices.ContainsFunc(nodes.Items, func(node corev1.Node) bool { return len(node.Spec.Taints) > 0 })
		same := now.unlike(last) == nil
		last = now
		return same && !tainted, nil
	})
}

// leave ends a script: nothing of it may stay in the cluster.
func (s *sharedCluster) leave(c *cluster, before traces) {
	if c.rollout != nil {
		c.rollout.stop()
	}
	if c.t.Failed() {
		c.report()
		s.remove(c.t)
		return
	}
	if err := c.deleteNamespace(); err != nil {
		c.t.Errorf("the script's namespace: %v", err)
	} else if err := settled(c.state, func(now traces) error { return now.unlike(before) }); err != nil {
		c.t.Errorf("the script does not leave the cluster as it was: %v", err)
	}
	if c.t.Failed() {
		s.remove(c.t)
	}
}

// remove ends the cluster, if there is one; t fails when something of it stays behind.
func (s *sharedCluster) remove(t testing.TB) {
	if s.cluster == nil {
		return
	}
	s.cluster.t = t
	s.cluster.remove()
	s.cluster = nil
}

// configIn writes a copy of a kubeconfig with this namespace.
func configIn(from, to, namespace string) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	for _, c := range config.Contexts {
		c.Namespace = namespace
	}
	return clientcmd.WriteToFile(*config, to)
}

// makeNamespace makes the script's namespace, and returns when pods can be created there.
func (c *cluster) makeNamespace() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, pollEvery/4, true, func(ctx context.Context) (bool, error) {
		_, accountErr := client.CoreV1().ServiceAccounts(c.namespace).Get(ctx, "default", metav1.GetOptions{})
		_, rootErr := client.CoreV1().ConfigMaps(c.namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		err := errors.Join(accountErr, rootErr)
		return err == nil, ignoreNotFound(accountErr, rootErr)
	})
}

func ignoreNotFound(errs ...error) error {
	return errors.Join(slices.DeleteFunc(errs, apierrors.IsNotFound)...)
}

// deleteNamespace returns when everything in the script's namespace is gone.
func (c *cluster) deleteNamespace() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), emptyTime)
	defer cancel()
	if err := client.CoreV1().Namespaces().Delete(ctx, c.namespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ignoreNotFound(err)
	})
}

// state returns what a script could leave in a cluster: objects by kind, except those that have an owner, and
// what is special about each node.
func (c *cluster) state() (traces, error) {
	t := traces{names: map[string][]string{}}
	config, err := c.restConfig()
	if err != nil {
		return t, err
	}
	config.QPS = -1 // no limit: it lists each kind twice a script
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return t, err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return t, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kinds, err := keptKinds(client.Discovery())
	if err != nil {
		return t, err
	}
	for _, kind := range kinds {
		list, err := objects.Resource(kind).List(ctx, metav1.ListOptions{})
		if err != nil {
			return t, fmt.Errorf("list the %s: %w", kind.Resource, err)
		}
		for _, o := range list.Items {
			// The control plane remembers which machine has which node name for as long as its certificates
			// live.
			if metav1.GetControllerOf(&o) == nil && o.Labels["everynode.io/given-names"] == "" {
				t.names[kind.Resource] = append(t.names[kind.Resource], strings.TrimPrefix(o.Namespace+"/"+o.Name, "/"))
			}
		}
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return t, err
	}
	for i := range nodes.Items {
		t.names["node"] = append(t.names["node"], describeNode(&nodes.Items[i]))
	}
	return t, nil
}

// keptKinds returns the kinds of objects that stay until somebody deletes them. Kubernetes itself creates and
// deletes the others: events, leases, endpoints, and the certificate signing requests of nodes, which stay
// for an hour.
func keptKinds(client discovery.DiscoveryInterface) (kinds []schema.GroupVersionResource, err error) {
	lists, err := discovery.ServerPreferredResources(client)
	if err != nil {
		return nil, err
	}
	passing := []string{"events", "leases", "endpoints", "endpointslices", "certificatesigningrequests"}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists) {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if !slices.Contains(passing, r.Name) {
				kinds = append(kinds, group.WithResource(r.Name))
			}
		}
	}
	return kinds, nil
}

// describeNode describes what scheduling depends on.
func describeNode(node *corev1.Node) string {
	ready := corev1.ConditionUnknown
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			ready = condition.Status
		}
	}
	var taints []string
	for _, taint := range node.Spec.Taints {
		taints = append(taints, taint.ToString())
	}
	return fmt.Sprintf("%s with labels %v, taints %v, unschedulable %t, ready %s", node.Name, node.Labels, taints, node.Spec.Unschedulable, ready)
}
