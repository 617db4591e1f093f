package verbs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// rolloutTarget is one DaemonSet, with the clients that read about its releases.
type rolloutTarget struct {
	console         *console.Console
	cluster         access
	namespace, name string
	verbose         bool
	sets            kubernetes.Interface
	kinds           rolloutKinds
}

func (t *rolloutTarget) String() string { return t.namespace + "/" + t.name }

// typed returns a command as users type it for the cluster.
func (t *rolloutTarget) typed(format string, args ...any) string {
	return t.cluster.typed(t.console, fmt.Sprintf(format, args...))
}

// explain prints a command if the user gave -v.
func (t *rolloutTarget) explain(format string, args ...any) {
	if t.verbose {
		fmt.Fprintln(t.console.Err, t.typed(format, args...))
	}
}

func (t *rolloutTarget) connect() error {
	var err error
	if t.kinds, err = t.cluster.kinds(); err != nil {
		return err
	}
	t.sets, err = t.cluster.client()
	return err
}

// rolloutKinds reads the objects of releases in waves.
type rolloutKinds struct {
	rollouts, policies dynamic.NamespaceableResourceInterface
}

func (a access) kinds() (k rolloutKinds, err error) {
	config, err := a.Config()
	if err != nil {
		return k, err
	}
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return k, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	k.rollouts = client.Resource(view.ReleaseResource(view.RolloutResource))
	k.policies = client.Resource(view.ReleaseResource(view.PolicyResource))
	return k, nil
}

// kindsMissing reports whether the API server does not know the kind at all, and not just the object.
func kindsMissing(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// readError adds to an API error what the user can do about it.
func readError(err error) error {
	switch {
	case kindsMissing(err):
		return errors.New("the cluster does not know the kind DaemonSetRollout: no engine that follows RolloutPolicies is installed; docs/safe-releases.md says how")
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w; the ClusterRole everynode-rollouts-operator permits it", err)
	}
	return fmt.Errorf("ask for releases: %w", err)
}

// release is what is known of the releases of a DaemonSet.
type release struct {
	view.DaemonSetRollout
	state rollout.State
	// policy is the policy that the release follows; nil if it cannot be read.
	policy *rollout.Policy
	// numbers are the revisions' numbers by hash, as kubectl rollout history shows them.
	numbers map[string]int64
	// typed returns a command as users type it for the cluster; nil: it is the default one.
	typed func(string) string
}

// read reads all of it. It is an error if the engine has reported nothing yet.
func (t *rolloutTarget) read(ctx context.Context) (*release, error) {
	o, err := t.kinds.rollouts.Namespace(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && !kindsMissing(err) {
		return nil, t.whyNone(ctx)
	}
	if err != nil {
		return nil, readError(err)
	}
	r, err := t.known(o)
	if err != nil {
		return nil, err
	}
	if ref := r.Status.Policy; ref != nil {
		r.policy = t.readPolicy(ctx, ref.Name)
	}
	r.numbers = map[string]int64{}
	if revisions, err := t.revisions(ctx); err == nil { // without revisions there are no numbers
		for i := range revisions {
			r.numbers[revisions[i].Labels[appsv1.ControllerRevisionHashLabelKey]] = revisions[i].Revision
		}
	}
	return r, nil
}

// known converts the DaemonSetRollout itself.
func (t *rolloutTarget) known(o *unstructured.Unstructured) (*release, error) {
	r := &release{typed: func(command string) string { return t.typed("%s", command) }}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &r.DaemonSetRollout); err != nil {
		return nil, fmt.Errorf("the DaemonSetRollout %s cannot be read: %w", t, err)
	}
	if r.Status.Phase == "" {
		return nil, fmt.Errorf("no engine has said anything about %s yet: either it does not run, or it is too old to follow RolloutPolicies; look at the logs of everynode-controller", t)
	}
	var err error
	if r.state, err = view.RolloutState(&r.DaemonSetRollout); err != nil {
		return nil, fmt.Errorf("the status of the DaemonSetRollout %s cannot be read: %w; is the engine newer than this everynode?", t, err)
	}
	return r, nil
}

// whyNone explains why there is no DaemonSetRollout.
func (t *rolloutTarget) whyNone(ctx context.Context) error {
	ds, err := t.sets.AppsV1().DaemonSets(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no DaemonSet %s in namespace %s", t.name, t.namespace)
	}
	if err != nil {
		return fmt.Errorf("there is no DaemonSetRollout %s, and whether there is a DaemonSet is not known: %w", t, err)
	}
	policies, err := t.kinds.policies.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("there is no DaemonSetRollout %s: no RolloutPolicy chooses the DaemonSet, or the engine does not run. Which of the two is not known: %w", t, err)
	}
	for i := range policies.Items {
		var p view.RolloutPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(policies.Items[i].Object, &p); err == nil && p.Chooses(ds) {
			return fmt.Errorf("RolloutPolicy %s chooses DaemonSet %s, and no engine has made its DaemonSetRollout: either it does not run, or it is too old to follow RolloutPolicies", p.Name, t)
		}
	}
	if name := ds.Annotations[view.PolicyAnnotation]; name != "" {
		return fmt.Errorf("DaemonSet %s names the RolloutPolicy %s, which is not there", t, name)
	}
	return fmt.Errorf("DaemonSet %s follows no RolloutPolicy, so its updates go as updateStrategy says: `kubectl rollout` is for these. "+
		"To have it follow one: %s", t, t.typed("kubectl annotate -n %s ds/%s %s=NAME", t.namespace, t.name, view.PolicyAnnotation))
}

// readPolicy returns nil if the policy does not exist, may not be read, or is not valid.
func (t *rolloutTarget) readPolicy(ctx context.Context, name string) *rollout.Policy {
	o, err := t.kinds.policies.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	var wire view.RolloutPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &wire); err != nil {
		return nil
	}
	p, wrong := view.Policy(&wire)
	if wrong != nil {
		return nil
	}
	return &p
}

// revisions returns the DaemonSet's revisions, the newest first.
func (t *rolloutTarget) revisions(ctx context.Context) ([]appsv1.ControllerRevision, error) {
	ds, err := t.sets.AppsV1().DaemonSets(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s: %w", t, err)
	}
	list, err := t.sets.AppsV1().ControllerRevisions(t.namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(ds.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("list the revisions of DaemonSet %s: %w", t, err)
	}
	all := slices.DeleteFunc(list.Items, func(r appsv1.ControllerRevision) bool {
		owner := metav1.GetControllerOf(&r)
		return owner == nil || owner.UID != ds.UID
	})
	slices.SortFunc(all, func(a, b appsv1.ControllerRevision) int { return int(b.Revision - a.Revision) })
	return all, nil
}

// complete completes the names of DaemonSets that have releases, as users type them (offers), and after a name for
// promote its open wave.
func (cmd rolloutCommands) complete(f *rolloutFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, given []string, word string) (names []string, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completionTime)
		defer cancel()
		if len(given) == 1 && c.Name() == "promote" {
			if t, err := cmd.target(f, given[0]); err == nil {
				if r, err := t.read(ctx); err == nil && r.state.Wave != "" {
					names = []string{r.state.Wave}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		kinds, err := cmd.cluster.kinds()
		if err != nil || len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		namespace, before := f.offers(word)
		if namespace, err = cmd.cluster.orCurrent(namespace); err != nil || len(before) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := kinds.rollouts.Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range list.Items {
			for _, b := range before {
				if name := b + list.Items[i].GetName(); strings.HasPrefix(name, word) {
					names = append(names, name)
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// offers returns the namespace of the DaemonSets that the word may become the name of (empty: the current one), and what
// users type before these names, as target reads it.
func (f *rolloutFlags) offers(word string) (namespace string, before []string) {
	kind, _, typed := strings.Cut(word, "/")
	switch {
	case word == "":
		return f.namespace, []string{"ds/"}
	case !typed:
		return f.namespace, []string{"ds/", ""}
	case isDaemonSets(kind):
		return f.namespace, []string{kind + "/"}
	case f.namespace == "" || f.namespace == kind:
		return kind, []string{kind + "/"}
	}
	return "", nil
}
