package verbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
	"everynode/internal/view"
	"everynode/internal/why"
)

// auditReader reads from a cluster what `audit` judges. It only lists and gets.
type auditReader struct {
	client    kubernetes.Interface
	metadata  metadata.Interface
	policies  dynamic.ResourceInterface
	namespace string // of the DaemonSets; empty: all
	secrets   bool   // whether to read Secrets

	in      audit.Input
	notRead []string
}

func newAuditReader(cluster access, f *auditFlags) (*auditReader, error) {
	config, err := cluster.Config()
	if err != nil {
		return nil, err
	}
	client, err := ForFleet(config)
	if err != nil {
		return nil, err
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	kinds, err := cluster.kinds()
	if err != nil {
		return nil, err
	}
	return &auditReader{client: client, metadata: meta, policies: kinds.policies, namespace: f.namespace, secrets: f.secrets}, nil
}

// read fails only if it cannot read the DaemonSets. It notes what else it cannot read.
func (r *auditReader) read(ctx context.Context) error {
	sets, err := r.client.AppsV1().DaemonSets(r.namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) && r.namespace == "" {
		return fmt.Errorf("list the DaemonSets: %w; --namespace needs the right in one namespace only", err)
	}
	if err != nil {
		return fmt.Errorf("list the DaemonSets: %w", err)
	}
	r.in.DaemonSets = sets.Items
	nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err == nil {
		r.in.Nodes = append([]corev1.Node{}, nodes.Items...) // an empty list means no nodes, nil that they are not known
	}
	r.note("nodes", "how many there are is as the DaemonSets' statuses say, and nothing is said of single ones", err)
	r.note("pods", "nothing is said of revisions and of when the last pod was created", r.readPods(ctx))
	r.note("RolloutPolicies", "nothing is said of what their guards hold", r.readPolicies(ctx))
	r.readConfig(ctx)
	return context.Cause(ctx)
}

// note records what could not be read, and what is not known because of that.
func (r *auditReader) note(what, so string, err error) {
	if err != nil {
		r.notRead = append(r.notRead, fmt.Sprintf("%s were not read, so %s: %v", what, so, err))
	}
}

// readPolicies lists the RolloutPolicies. If the cluster does not have the kind, there are none, and that is not
// worth a note.
func (r *auditReader) readPolicies(ctx context.Context) error {
	list, err := r.policies.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) && !why.HasKinds(ctx, r.client) {
		return nil
	}
	if err != nil {
		return err
	}
	policies := make([]view.RolloutPolicy, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &policies[i]); err != nil {
			return fmt.Errorf("RolloutPolicy %s: %w", list.Items[i].GetName(), err)
		}
	}
	r.in.Policies = policies
	return nil
}

// podPage is how many pods one request reads.
const podPage = 2000

// readPods lists only the pods' metadata, a page at a time: all pods of a large cluster are a gigabyte.
func (r *auditReader) readPods(ctx context.Context) error {
	pods := r.metadata.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(r.namespace)
	options := metav1.ListOptions{Limit: podPage}
	for {
		page, err := pods.List(ctx, options)
		if err != nil {
			r.in.Pods = nil
			return err
		}
		for i := range page.Items {
			r.in.AddPod(&page.Items[i].ObjectMeta)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return nil
		}
	}
}

// configReaders is how many ConfigMaps are read at the same time.
const configReaders = 8

// readConfig reads each ConfigMap, and if asked for each Secret, that pods use. It leaves one that does not exist
// unknown.
func (r *auditReader) readConfig(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(configReaders)
	var mu sync.Mutex
	failed := map[audit.Kind]error{}
	secrets := false
	for _, ref := range audit.References(&r.in) {
		if ref.Kind == audit.Secret && !r.secrets {
			secrets = true
			continue
		}
		group.Go(func() error {
			immutable, err := r.immutable(ctx, ref)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				r.in.Know(ref, immutable)
			case !apierrors.IsNotFound(err):
				failed[ref.Kind] = err
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in failed
	const so = "nothing is said of whether they can be edited"
	r.note("some ConfigMaps", so, failed[audit.ConfigMap])
	r.note("some Secrets", so, failed[audit.Secret])
	if secrets {
		r.note("Secrets", so, errors.New("--read-secrets was not given"))
	}
}

func (r *auditReader) immutable(ctx context.Context, ref audit.Ref) (*bool, error) {
	if ref.Kind == audit.Secret {
		s, err := r.client.CoreV1().Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return s.Immutable, nil
	}
	m, err := r.client.CoreV1().ConfigMaps(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return m.Immutable, nil
}

// readManifests reads files; - is standard input.
func (cmd auditCommand) readManifests(ctx context.Context, files []string) (*audit.Input, error) {
	in, others := &audit.Input{}, 0
	for _, name := range files {
		data, err := readFileOrInput(console.Until(ctx, cmd.In), name)
		if err != nil {
			return nil, err
		}
		n, err := in.Read(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		others += n
	}
	if len(in.DaemonSets) == 0 {
		return nil, fmt.Errorf("there is no DaemonSet to judge: the files have %s of other kinds that count for nothing here", console.Counted(others, "object"))
	}
	return in, nil
}

func readFileOrInput(in io.Reader, name string) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read the standard input: %w", err)
	}
	return data, nil
}

// complete completes the names of the cluster's DaemonSets.
func (cmd auditCommand) complete(f *auditFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(f.files) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return cmd.cluster.complete(c, func(ctx context.Context, client kubernetes.Interface) ([]string, error) {
			sets, err := client.AppsV1().DaemonSets(f.namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			return namesOf(sets.Items, given), nil
		})
	}
}
