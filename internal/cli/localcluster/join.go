package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/controlplane/admission"
	"everynode/internal/datadir"
	"everynode/internal/local"
)

// Deadlines of the steps of `up`, far above what they need.
const (
	apiDeadline  = 2 * time.Minute
	nodeDeadline = 3 * time.Minute
	joinTokenTTL = 15 * time.Minute
)

// Join starts the agents and waits until each node is Ready and its machine runs. If
// the pod network is not ours to make, a node may lack that.
func (s *Starting) Join(ctx context.Context, nodes []local.Node) (err error) {
	client, err := AdminClient(s.cluster.DataDir)
	if err != nil {
		return err
	}
	drop, err := s.joinToken(ctx, client, nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error {
			done := s.progress.Step()
			begin := time.Now()
			if _, runs := datadir.Running(s.cluster.AgentLock(n.Name)); runs {
				begin = time.Time{} // a kubelet that kept running reports nothing new for minutes
			}
			if err := s.cluster.startNode(gctx, n); err != nil {
				return err
			}
			err := s.waitReady(gctx, client, n, begin)
			if errors.Is(err, ErrNoNetwork) {
				done("%s registered at %s, NotReady: %v", n.Name, n.Address, err)
				return nil
			}
			if err == nil {
				done("%s Ready at %s", n.Name, n.Address)
			}
			return err
		})
	}
	return g.Wait()
}

// joinToken writes a short-lived token for the nodes that have not joined yet, if
// there are any. drop revokes it.
func (s *Starting) joinToken(ctx context.Context, client kubernetes.Interface, nodes []local.Node) (drop func(context.Context) error, err error) {
	drop = func(context.Context) error { return nil }
	if s.allJoined(nodes) {
		return drop, nil
	}
	spec := admission.TokenSpec{TTL: joinTokenTTL, Description: "nodes of this machine"}
	for _, n := range nodes {
		spec.Nodes = append(spec.Nodes, n.Name)
	}
	authority, err := AuthorityHash(s.cluster.DataDir)
	if err != nil {
		return drop, err
	}
	token, err := admission.CreateToken(ctx, client, spec)
	if err != nil {
		return drop, err
	}
	drop = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return errors.Join(os.Remove(tokenFile(s.cluster.DataDir)), admission.DeleteToken(ctx, client, token.ID))
	}
	if err := os.WriteFile(tokenFile(s.cluster.DataDir), []byte(token.String()+"@"+authority+"\n"), 0o600); err != nil {
		return drop, errors.Join(fmt.Errorf("write the token for the nodes: %w", err), drop(ctx))
	}
	return drop, nil
}

// allJoined reports whether every node already has its own credentials.
func (s *Starting) allJoined(nodes []local.Node) bool {
	for _, n := range nodes {
		if _, err := os.Stat(filepath.Join(s.cluster.NodeDir(n.Name), "kubelet.kubeconfig")); err != nil {
			return false
		}
	}
	return true
}

// waitAPI waits until the API server reports that it is ready. It fails if the process
// ends.
func (s *Starting) waitAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiDeadline)
	defer cancel()
	var last error
	err := wait.PollUntilContextCancel(ctx, 25*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if _, ok := datadir.Running(s.cluster.ServerLock()); !ok {
			return false, fmt.Errorf("the control plane ended: %s\nIts log is %s", local.LastError(s.cluster.ServerLog()), s.cluster.ServerLog())
		}
		last = ProbeAPI(ctx, s.cluster.DataDir)
		return last == nil, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the API server is not ready after %s (%w); its log is %s", apiDeadline, last, s.cluster.ServerLog())
	}
	return err
}

// ProbeAPI returns an error unless the API server is ready and has published what
// nodes need to join.
func ProbeAPI(ctx context.Context, dataDir string) error {
	config, err := AdminConfig(dataDir)
	if err != nil {
		return err
	}
	config.Timeout = time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	_, err = client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "cluster-info", metav1.GetOptions{})
	return err
}

// waitReady waits until the node's kubelet has reported Ready since begin: earlier
// reports, from before its machine stopped, do not count. In a cluster whose pod
// network is not ours to make, it returns ErrNoNetwork if the node lacks only that.
func (s *Starting) waitReady(ctx context.Context, client kubernetes.Interface, n local.Node, begin time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline)
	defer cancel()
	log := filepath.Join(s.cluster.NodeDir(n.Name), "agent.log")
	last := "it has not registered"
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (ready bool, err error) {
		if _, ok := datadir.Running(s.cluster.AgentLock(n.Name)); !ok {
			return false, fmt.Errorf("%s: its agent ended: %s\nIts log is %s", n.Name, local.LastError(log), log)
		}
		node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			last = err.Error()
			return false, nil
		}
		ready, last = readySince(node, begin)
		if s.cluster.NoCNI && LacksNetwork(node, begin) {
			return false, ErrNoNetwork
		}
		return ready, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s is not Ready after %s: %s; its logs are in %s", n.Name, nodeDeadline, last, filepath.Dir(log))
	}
	return err
}

// readySince reports whether the node was reported Ready at begin or later, and if
// not, why.
func readySince(node *corev1.Node, begin time.Time) (ready bool, why string) {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.LastHeartbeatTime.Time.Before(begin.Truncate(time.Second)) {
			return false, "its kubelet has not reported yet"
		}
		return c.Status == corev1.ConditionTrue, c.Message
	}
	return false, "its kubelet has not reported yet"
}
