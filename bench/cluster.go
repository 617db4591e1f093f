package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// startTime is how long the API server may take to be ready. It reads every
// object that is there.
const startTime = 2 * time.Minute

// cluster is etcd and an API server, each a process of its own.
type cluster struct {
	dir     string
	pki     pki
	url     string // of the API server
	etcd    *child
	api     *child
	client  kubernetes.Interface // the driver's
	control *rest.Config
}

// startCluster starts etcd on dir/etcd, which may hold data already, and the API
// server, and waits until it is ready.
func startCluster(ctx context.Context, dir string, p pki) (*cluster, error) {
	c := &cluster{dir: dir, pki: p}
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o700); err != nil {
		return nil, fmt.Errorf("make the cluster's directory: %w", err)
	}
	if err := c.start(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) start(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the API server: %w", err)
	}
	defer listener.Close()
	c.url = "https://" + listener.Addr().String()
	inherited, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("pass the listener on: %w", err)
	}
	defer inherited.Close()
	if c.etcd, err = startRole(roleEtcd, roleEtcd, c.dir, nil, c.dir); err != nil {
		return err
	}
	if c.api, err = startRole(roleAPIServer, roleAPIServer, c.dir, []*os.File{inherited}, c.flags()...); err != nil {
		return err
	}
	c.control = c.pki.config(c.url, userDriver)
	if c.client, err = kubernetes.NewForConfig(c.control); err != nil {
		return fmt.Errorf("make the driver's client: %w", err)
	}
	return c.waitReady(ctx)
}

// flags are kube-apiserver's. Priority and fairness is on, as shipped, and
// exempts administrators, who all users here are. There is no node lifecycle
// controller that would take away the taint of a new node.
func (c *cluster) flags() []string {
	p := c.pki
	return []string{
		"--etcd-servers=unix://" + filepath.Join(c.dir, "etcd.sock"), "--bind-address=127.0.0.1",
		"--tls-cert-file=" + p.crt("server"), "--tls-private-key-file=" + p.key("server"), "--client-ca-file=" + p.crt("ca"),
		"--authorization-mode=AlwaysAllow", "--disable-admission-plugins=TaintNodesByCondition", "--allow-privileged=true",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=198.19.0.0/24",
		"--service-account-issuer=https://bench.example", "--service-account-key-file=" + p.key("service-accounts"),
		"--service-account-signing-key-file=" + p.key("service-accounts"),
	}
}

func (c *cluster) waitReady(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, startTime, true, func(ctx context.Context) (bool, error) {
		for _, ch := range []*child{c.etcd, c.api} {
			if ch.over() {
				return false, fmt.Errorf("%s ended: %w: %s", ch.name, ch.err, ch.tail())
			}
		}
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	return nil
}

// stop ends both, the API server first. It is safe on a half-started cluster.
func (c *cluster) stop() {
	c.api.stop()
	c.etcd.stop()
}

// copyTo copies the data of a stopped cluster into the directory of another.
func (c *cluster) copyTo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the cluster's directory: %w", err)
	}
	err := os.CopyFS(filepath.Join(dir, "etcd"), os.DirFS(filepath.Join(c.dir, "etcd")))
	if err == nil {
		err = os.Chmod(filepath.Join(dir, "etcd"), 0o700)
	}
	if err != nil {
		return fmt.Errorf("copy the prepared data of etcd: %w", err)
	}
	return nil
}

// alive is an error when one of the children has ended.
func alive(children ...*child) error {
	var errs []error
	for _, c := range children {
		if c != nil && c.over() {
			errs = append(errs, fmt.Errorf("%s ended (%v): %s", c.name, c.err, c.tail()))
		}
	}
	return errors.Join(errs...)
}
