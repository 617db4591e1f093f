package testbed

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
// object that exists.
const startTime = 2 * time.Minute

// Cluster is etcd and an API server, each a process of its own.
type Cluster struct {
	Dir     string
	Keys    PKI
	URL     string // of the API server
	Etcd    *Child
	API     *Child
	Client  kubernetes.Interface // the driver's
	Control *rest.Config
}

// StartCluster starts etcd on dir/etcd, which may already have data, and the API
// server, and waits until the API server is ready.
func StartCluster(ctx context.Context, dir string, p PKI) (*Cluster, error) {
	c := &Cluster{Dir: dir, Keys: p}
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o700); err != nil {
		return nil, fmt.Errorf("make the cluster's directory: %w", err)
	}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the API server: %w", err)
	}
	defer listener.Close()
	c.URL = "https://" + listener.Addr().String()
	inherited, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("pass the listener on: %w", err)
	}
	defer inherited.Close()
	if c.Etcd, err = StartRole(RoleEtcd, RoleEtcd, c.Dir, nil, c.Dir); err != nil {
		return err
	}
	if c.API, err = StartRole(RoleAPIServer, RoleAPIServer, c.Dir, []*os.File{inherited}, c.flags()...); err != nil {
		return err
	}
	c.Control = c.Keys.Config(c.URL, UserDriver)
	if c.Client, err = kubernetes.NewForConfig(c.Control); err != nil {
		return fmt.Errorf("make the driver's client: %w", err)
	}
	return c.waitReady(ctx)
}

// flags are kube-apiserver's. Priority and fairness is on by default, and
// exempts administrators, who all users here are. Nodes are not tainted when
// they are created: there is no node lifecycle controller that would remove the
// taint.
func (c *Cluster) flags() []string {
	p := c.Keys
	return []string{
		"--etcd-servers=unix://" + filepath.Join(c.Dir, "etcd.sock"), "--bind-address=127.0.0.1",
		"--tls-cert-file=" + p.crt("server"), "--tls-private-key-file=" + p.key("server"), "--client-ca-file=" + p.crt("ca"),
		"--authorization-mode=AlwaysAllow", "--disable-admission-plugins=TaintNodesByCondition", "--allow-privileged=true",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=198.19.0.0/24",
		"--service-account-issuer=https://bench.example", "--service-account-key-file=" + p.key("service-accounts"),
		"--service-account-signing-key-file=" + p.key("service-accounts"),
	}
}

func (c *Cluster) waitReady(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, startTime, true, func(ctx context.Context) (bool, error) {
		for _, ch := range []*Child{c.Etcd, c.API} {
			if ch.Over() {
				return false, fmt.Errorf("%s ended: %w: %s", ch.Name, ch.err, ch.Tail())
			}
		}
		return c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	return nil
}

// Stop stops both, the API server first. It also works on a half-started
// cluster.
func (c *Cluster) Stop() {
	c.API.Stop()
	c.Etcd.Stop()
}

// CopyTo copies the data of a stopped cluster into the directory of another.
func (c *Cluster) CopyTo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the cluster's directory: %w", err)
	}
	err := os.CopyFS(filepath.Join(dir, "etcd"), os.DirFS(filepath.Join(c.Dir, "etcd")))
	if err == nil {
		err = os.Chmod(filepath.Join(dir, "etcd"), 0o700)
	}
	if err != nil {
		return fmt.Errorf("copy the prepared data of etcd: %w", err)
	}
	return nil
}

// Alive returns an error if one of the children has ended.
func Alive(children ...*Child) error {
	var errs []error
	for _, c := range children {
		if c != nil && c.Over() {
			errs = append(errs, fmt.Errorf("%s ended (%v): %s", c.Name, c.err, c.Tail()))
		}
	}
	return errors.Join(errs...)
}
