package verbs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
	"everynode/internal/forecast"
	"everynode/internal/plan"
	"everynode/internal/view"
	"everynode/internal/why"
)

// daemonSetsOf returns the DaemonSets in the files, as documents for kubectl. It leaves
// out everything else.
func (cmd planCommand) daemonSetsOf(ctx context.Context, files []string) ([]byte, error) {
	var out bytes.Buffer
	in := &audit.Input{}
	for _, name := range files {
		data, err := readFileOrInput(console.Until(ctx, cmd.In), name)
		if err != nil {
			return nil, err
		}
		if _, err := in.Read(data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := copyDaemonSets(&out, data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(in.DaemonSets) == 0 {
		return nil, fmt.Errorf("there is no DaemonSet in %s", strings.Join(files, ", "))
	}
	return out.Bytes(), nil
}

// copyDaemonSets writes the documents of a manifest that are DaemonSets. Items of lists
// become documents of their own.
func copyDaemonSets(out *bytes.Buffer, manifest []byte) error {
	documents := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := yaml.YAMLToJSON(document)
		if err != nil {
			return err
		}
		if err := copyDaemonSet(out, data); err != nil {
			return err
		}
	}
}

func copyDaemonSet(out *bytes.Buffer, object []byte) error {
	var o struct {
		Kind  string          `json:"kind"`
		Items json.RawMessage `json:"items"` // of any form: other kinds may have such a field
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return err
	}
	if o.Kind == "DaemonSet" {
		fmt.Fprintf(out, "---\n%s\n", object)
	}
	if !strings.HasSuffix(o.Kind, "List") || !bytes.HasPrefix(o.Items, []byte("[")) {
		return nil
	}
	var items []map[string]json.RawMessage
	if err := json.Unmarshal(o.Items, &items); err != nil {
		return err
	}
	for _, item := range items {
		if o.Kind == "DaemonSetList" { // its items may leave out their kind
			item["apiVersion"], item["kind"] = json.RawMessage(`"apps/v1"`), json.RawMessage(`"DaemonSet"`)
		}
		data, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if err := copyDaemonSet(out, data); err != nil {
			return err
		}
	}
	return nil
}

// dryRun asks the API server what the DaemonSets would become. It runs kubectl, so that
// the result is the same as that of `kubectl apply`.
func (cmd planCommand) dryRun(ctx context.Context, f *forecastFlags, manifests []byte) ([]appsv1.DaemonSet, error) {
	args, err := cmd.cluster.Kubectl()
	if err != nil {
		return nil, err
	}
	if err := cmd.cluster.reach(ctx); err != nil {
		return nil, err
	}
	args = append(args, "apply", "--dry-run=server", "--output", "json", "--filename", "-")
	if f.serverSide {
		args = append(args, "--server-side")
	}
	if f.namespace != "" {
		args = append(args, "--namespace", f.namespace)
	}
	kubectl := exec.CommandContext(ctx, args[0], args[1:]...)
	kubectl.WaitDelay = kubectlEnds
	var said bytes.Buffer
	kubectl.Stdin, kubectl.Stderr = bytes.NewReader(manifests), &said
	out, err := kubectl.Output()
	if err != nil {
		return nil, f.refusal(ctx, said.String(), err)
	}
	if _, err := cmd.Err.Write(said.Bytes()); err != nil { // warnings of the API server
		return nil, fmt.Errorf("write the API server's warnings: %w", err)
	}
	return decodeDaemonSets(out)
}

// kubectlEnds is how long a program that an interrupted kubectl has started, such as one for credentials, may keep its
// output open.
const kubectlEnds = time.Second

// refusal returns the error for a dry run that failed. said is what kubectl has said about it.
func (f *forecastFlags) refusal(ctx context.Context, said string, err error) error {
	said = strings.TrimSpace(strings.TrimPrefix(said, "error: "))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask the API server: %w", ctx.Err())
	case said == "":
		return fmt.Errorf("run kubectl: %w", err)
	}
	given := slices.Clone(f.files)
	for i, name := range given {
		if name == "-" {
			given[i] = "the standard input"
		}
	}
	// kubectl knows no file but its standard input, and names a flag of its own.
	said = strings.ReplaceAll(said, `"STDIN"`, strconv.Quote(strings.Join(given, ", ")))
	said = strings.ReplaceAll(said, "; if you choose to ignore these errors, turn validation off with --validate=false", "")
	return fmt.Errorf("the API server does not take the change: %s", said)
}

// decodeDaemonSets reads what kubectl prints: one object, or a List of them.
func decodeDaemonSets(data []byte) ([]appsv1.DaemonSet, error) {
	var list appsv1.DaemonSetList
	err := json.Unmarshal(data, &list)
	if err == nil && list.Kind == "DaemonSet" {
		list.Items = make([]appsv1.DaemonSet, 1)
		err = json.Unmarshal(data, &list.Items[0])
	}
	if err != nil {
		return nil, fmt.Errorf("read what kubectl answered: %w", err)
	}
	return list.Items, nil
}

// forecastWorld is what `plan` knows of the cluster.
type forecastWorld struct {
	now       time.Time
	reader    *auditReader
	nodes     []plan.Node
	live      map[string]*appsv1.DaemonSet // as they are now, by namespace and name
	pods      map[string][]corev1.Pod
	revisions map[string][]*view.Revision            // by namespace
	templates map[string][]appsv1.ControllerRevision // the same as objects, by namespace
	kept      []view.DaemonSetRollout                // the state of releases; none if it cannot be read
	assisted  bool                                   // everynode's engine works beside the cluster's DaemonSet controller
}

func readForecastWorld(ctx context.Context, r *auditReader, sets []appsv1.DaemonSet) (*forecastWorld, error) {
	w := &forecastWorld{now: time.Now(), reader: r, live: map[string]*appsv1.DaemonSet{}, pods: map[string][]corev1.Pod{}, revisions: map[string][]*view.Revision{}, templates: map[string][]appsv1.ControllerRevision{}}
	nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	r.in.Nodes, r.in.DaemonSets, r.in.Now = append([]corev1.Node{}, nodes.Items...), sets, w.now
	for i := range nodes.Items {
		w.nodes = append(w.nodes, view.Node(&nodes.Items[i]))
	}
	for i := range sets {
		if err := w.readSet(ctx, &sets[i]); err != nil {
			return nil, err
		}
	}
	r.readConfig(ctx)
	r.note("RolloutPolicies", "it is not known in which waves the change would go", r.readPolicies(ctx))
	kept, err := why.Releases(ctx, r.client, metav1.NamespaceAll)
	r.note("DaemonSetRollouts", "it is not known whether everynode works beside the DaemonSet controller of the cluster, and whether a release is under way", err)
	w.kept = kept
	for i := range kept {
		w.assisted = w.assisted || kept[i].Status.Assists
	}
	return w, context.Cause(ctx)
}

func (w *forecastWorld) notRead() []string { return w.reader.notRead }

func (w *forecastWorld) readSet(ctx context.Context, ds *appsv1.DaemonSet) error {
	client, name := w.reader.client, ds.Namespace+"/"+ds.Name
	live, err := client.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read DaemonSet %s: %w", name, err)
	}
	w.live[name] = live
	pods, err := client.CoreV1().Pods(ds.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(ds.Spec.Selector)})
	if err != nil {
		return fmt.Errorf("list the pods of DaemonSet %s: %w", name, err)
	}
	w.pods[name] = pods.Items
	if w.revisions[ds.Namespace] != nil {
		return nil
	}
	revisions, err := client.AppsV1().ControllerRevisions(ds.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the revisions: %w", err)
	}
	w.revisions[ds.Namespace], w.templates[ds.Namespace] = []*view.Revision{}, revisions.Items
	for i := range revisions.Items {
		w.revisions[ds.Namespace] = append(w.revisions[ds.Namespace], view.ReadRevision(&revisions.Items[i]))
	}
	return nil
}

// forecast simulates the change of one DaemonSet.
func (w *forecastWorld) forecast(ds *appsv1.DaemonSet, f *forecastFlags, policy *givenPolicy) (*setForecast, error) {
	name := ds.Namespace + "/" + ds.Name
	in := forecast.Input{Now: w.now, Nodes: w.nodes}
	live := map[string]bool{}
	for i := range w.pods[name] {
		p := &w.pods[name][i]
		if c := view.Claims(ds, p); c == view.Owned || c == view.Adopt {
			in.Pods = append(in.Pods, view.Pod(p))
			live[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
		}
	}
	history, err := view.History(ds, w.revisions[ds.Namespace], live)
	if err != nil {
		return nil, fmt.Errorf("read the revisions of DaemonSet %s: %w", name, err)
	}
	in.Set = view.Spec(ds, history.Hash)
	in.Set.InPlace = view.InPlaceFrom(ds, history.Hash, w.templates[ds.Namespace])
	s := &setForecast{Namespace: ds.Namespace, Name: ds.Name, Exists: w.live[name] != nil}
	in.Start, s.StartOf = startOf(in.Pods, f.start)
	s.Start = in.Start.Seconds()
	if in.Before, err = w.before(name, live); err != nil {
		return nil, err
	}
	if policy == nil {
		policy = w.followed(ds, s)
	}
	least, most := time.Duration(0), gracePeriod(ds)
	if f.stop != nil {
		least, most = *f.stop, *f.stop
	}
	in.Assisted = w.assisted
	fast, slow := courseOf(in, ds, policy, least), courseOf(in, ds, policy, most)
	s.fill(fast, slow)
	s.Warnings = slices.Concat(s.Warnings, playWarnings(fast, slow), auditWarnings(audit.Audit(w.judged(ds, policy))))
	if policy != nil {
		s.follow(policy, ds, &in, fast)
		if now := w.live[name]; now != nil && !w.assisted && len(s.Policy.Waves) > 0 {
			s.warnNeeded(w.stable(now), ds)
		}
	}
	return s, nil
}

// judged returns what `audit` judges: the DaemonSet as it will be, with the policy that its update goes by, if there is one.
func (w *forecastWorld) judged(given *appsv1.DaemonSet, policy *givenPolicy) *audit.Input {
	in, ds := w.reader.in, given.DeepCopy()
	in.Policies = nil
	if policy != nil && drives(ds, w.assisted) {
		in.Policies = []view.RolloutPolicy{policy.object}
		metav1.SetMetaDataAnnotation(&ds.ObjectMeta, view.PolicyAnnotation, policy.object.Name) // --policy need not choose it
	}
	in.DaemonSets = []appsv1.DaemonSet{*ds}
	return &in
}

// before returns what the DaemonSet asks for until the change; nil if it does not exist yet. During a release that is the
// stable revision. live has the hashes of its pods.
func (w *forecastWorld) before(name string, live map[string]bool) (*plan.Spec, error) {
	now := w.live[name]
	if now == nil {
		return nil, nil
	}
	now = w.stable(now)
	history, err := view.History(now, w.revisions[now.Namespace], live)
	if err != nil {
		return nil, fmt.Errorf("read the revisions of DaemonSet %s: %w", name, err)
	}
	before := view.Spec(now, history.Hash)
	return &before, nil
}

// course is how a change goes.
type course struct {
	*forecast.Forecast
	strategy plan.Strategy
	// waves are those of the policy, if there is one; else noWaves says why there are none.
	waves   []forecast.Wave
	noWaves string
	// released means that the change goes in these waves, and the times of the forecast are theirs.
	released bool
	// together says which pods are removed together, if not all.
	together string
}

// held reports whether the guard of the policy holds pods.
func (c *course) held() bool {
	return slices.ContainsFunc(c.Left, func(l forecast.Left) bool { return l.Reason == plan.HeldByGuard })
}

// courseOf plays the change with pods that take that long to end.
func courseOf(in forecast.Input, ds *appsv1.DaemonSet, policy *givenPolicy, stop time.Duration) *course {
	in.Stop = stop
	c := &course{strategy: in.Set.Strategy}
	if policy == nil {
		c.Forecast = forecast.Play(&in)
		return c
	}
	driven := in
	if in.Assisted {
		driven.Set.MaxSurge, driven.Before = plan.Amount{}, nil // the template alone decides which nodes have a pod
	}
	c.waves, c.noWaves = forecast.Waves(&driven, &policy.policy, string(ds.UID))
	if !drives(ds, in.Assisted) {
		c.Forecast = forecast.Play(&in)
		return c
	}
	c.strategy, c.released = plan.RollingUpdate, len(c.waves) > 0 // with OnDelete too: the policy says when pods go
	if c.released && !in.Assisted {
		c.together = ", all of a wave"
	}
	c.Forecast = forecast.Whole(&driven, &policy.policy, c.waves)
	return c
}

// assumedStart is how long a pod is assumed to take until it is ready if no pod has shown
// it.
const assumedStart = 10 * time.Second

// startOf returns the median time that pods take until they are ready, and how many pods
// it is measured on. If a time is given, it returns that and 0.
func startOf(pods []plan.Pod, given *time.Duration) (time.Duration, int) {
	var took []time.Duration
	for i := range pods {
		// The API's times are whole seconds: a shorter time counts as one.
		if p := &pods[i]; p.Ready && !p.ReadySince.IsZero() {
			took = append(took, max(p.ReadySince.Sub(p.Created), time.Second))
		}
	}
	switch {
	case given != nil:
		return *given, 0
	case len(took) == 0:
		return assumedStart, 0
	}
	slices.Sort(took)
	return took[len(took)/2], len(took)
}

func gracePeriod(ds *appsv1.DaemonSet) time.Duration {
	if s := ds.Spec.Template.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}
