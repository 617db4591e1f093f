package compat

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// previousEnv names the folder of the version to upgrade from, with its source, and its programs in bin/. `make
// upgrade` makes it.
const previousEnv = "EVERYNODE_PREVIOUS"

// TestUpgrade changes the engine's version in the middle of releases: to this one, back, and to this one again. At
// first the kinds of releases are those of the previous version, as its chart has them, and from the upgrade on those
// of this one. The change itself moves no pod, and releases under way go on.
func TestUpgrade(t *testing.T) {
	previous := os.Getenv(previousEnv)
	if previous == "" {
		t.Skip("there is no version to upgrade from: make upgrade PREVIOUS=TAG builds one")
	}
	before, now := program("the version before", filepath.Join(previous, "bin", "everynode-controller")), program("this version", buildController(t))
	d := newRolloutKinds(t)
	d.dropTraces()
	d.define(previous)
	e := d.drive(before)

	d.edit(image("agent:2"))
	d.stands(1, "Waiting", "NotApproved")
	e = d.replace(e, now, func() { d.define("../..") })
	d.stands(1, "Waiting", "NotApproved")
	d.wantImages("after the upgrade", map[string]int{"agent:2": 1, "agent:1": 2})
	d.ask(map[string]any{"promote": map[string]any{"release": 1, "wave": "first"}})
	d.until("the release goes through", func() bool { return d.everywhere("agent:2") })
	d.stands(1, "Idle", "")

	d.edit(image("agent:3"))
	d.stands(2, "Waiting", "NotApproved")
	e = d.replace(e, before, func() {})
	d.stands(2, "Waiting", "NotApproved")
	d.wantImages("after the way back", map[string]int{"agent:3": 1, "agent:2": 2})
	d.ask(map[string]any{"abort": 2})
	d.until("the release is taken back", func() bool { return d.everywhere("agent:2") })
	d.stands(2, "Aborted", "AbortRequested")
	d.replace(e, now, func() {})
	d.ask(map[string]any{"retry": 2})
	d.stands(3, "Waiting", "NotApproved")
	d.wantImages("when it was tried again", map[string]int{"agent:3": 1, "agent:2": 2})
}

// define installs the kinds of releases as a version's chart has them.
func (d *rolloutKinds) define(tree string) {
	d.t.Helper()
	client, err := dynamic.NewForConfig(d.config)
	d.do(err)
	for _, name := range []string{"rolloutpolicies", "daemonsetrollouts"} {
		text, err := os.ReadFile(filepath.Join(tree, "deploy/helm/everynode-controller/definitions", name+".yaml"))
		d.do(err)
		o := &unstructured.Unstructured{}
		d.do(yaml.Unmarshal(text, &o.Object))
		_, err = client.Resource(definitions).Apply(d.t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "test", Force: true})
		d.do(err)
	}
}

// replace stops an engine, calls between, and starts another engine. Meanwhile no pod may come or go.
func (d *rolloutKinds) replace(old *running, with controller, between func()) *running {
	d.t.Helper()
	d.rest()
	pods := d.uids()
	old.stop()
	between()
	e := d.start(with)
	d.until(with.name+" leads", func() bool { return d.holder() != "" })
	d.rest()
	for uid := range d.uids() {
		if !pods[uid] {
			d.t.Errorf("%s has made a pod by starting", with.name)
		}
		delete(pods, uid)
	}
	if len(pods) > 0 {
		d.t.Errorf("%s has removed %d pods by starting", with.name, len(pods))
	}
	return e
}

func (d *rolloutKinds) uids() map[string]bool {
	all := map[string]bool{}
	for _, p := range d.pods() {
		all[string(p.UID)] = true
	}
	return all
}

// holder is the holder of the engine's lease.
func (d *rolloutKinds) holder() string {
	lease, err := d.client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(d.t.Context(), "everynode-controller", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// stopsWithin is how long a program may take to end after it was told to.
const stopsWithin = 20 * time.Second

// program returns an engine that runs as its own process. It ends when the test does.
func program(name, file string) controller {
	return controller{name, func(ctx context.Context, t *testing.T, config *rest.Config) error {
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		if err := clientcmd.WriteToFile(kubeconfigOf(config), kubeconfig); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, file, "--kubeconfig", kubeconfig, "--metrics-bind-address=0")
		cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, stopsWithin
		cmd.Stderr = t.Output()
		if err := cmd.Run(); ctx.Err() == nil {
			return fmt.Errorf("it ended by itself: %w", err)
		}
		return nil
	}}
}

// kubeconfigOf returns a kubeconfig with the same connection for another process.
func kubeconfigOf(c *rest.Config) clientcmdapi.Config {
	k := *clientcmdapi.NewConfig()
	k.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData, CertificateAuthority: c.CAFile,
		InsecureSkipTLSVerify: c.Insecure, TLSServerName: c.ServerName}
	k.AuthInfos["lab"] = &clientcmdapi.AuthInfo{Token: c.BearerToken, ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}
	k.Contexts["lab"], k.CurrentContext = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "lab"}, "lab"
	return k
}
