package lookout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/fleetview"
	"everynode/internal/plan"
	"everynode/internal/why"
)

// askedRow is a row, and what is needed to read more about it.
type askedRow struct {
	row   why.Row
	scene *why.Scene
	state fleetview.CellState
}

// rowsOf returns the rows of the node, one for each DaemonSet. known is whether the node is known.
func (f *Fleet) rowsOf(name string) (all []askedRow, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	place, known := f.frame.places[name]
	for _, d := range f.known.sorted() {
		i := slices.IndexFunc(d.rows, func(r why.Row) bool { return r.Node == name })
		if !known || i < 0 || place >= len(d.set.Cells) {
			continue
		}
		all = append(all, askedRow{*d.heard(&d.rows[i]), d.scene, d.set.Cells[place].State})
	}
	return all, known
}

// Node returns what is known about a node. It reads what is not followed: the node's conditions, events about it, and
// events about its pods. An error wraps fleetview.ErrUnknown if the node does not exist.
func (f *Fleet) Node(ctx context.Context, name string, now time.Time) (*fleetview.NodeDetail, error) {
	rows, known := f.rowsOf(name)
	if !known {
		return nil, fmt.Errorf("node %s: %w", name, fleetview.ErrUnknown)
	}
	n, err := f.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("node %s: %w", name, fleetview.ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", name, err)
	}
	d := detailOf(n)
	for i := range rows {
		r := &rows[i]
		if !r.row.OK {
			// A user who may not read events gets everything else.
			one := []why.Row{r.row}
			if err := r.scene.Explain(ctx, f.client, one, now); err == nil {
				r.row = one[0]
			}
		}
		d.Rows = append(d.Rows, rowOf(&r.row, r.state))
	}
	if d.Events, err = events(ctx, f.client, metav1.NamespaceDefault, "Node", name); err != nil {
		d.Unread = fmt.Sprintf("events: %v", err)
	}
	return d, nil
}

func detailOf(n *corev1.Node) *fleetview.NodeDetail {
	i := &n.Status.NodeInfo
	d := &fleetview.NodeDetail{Name: n.Name, Created: n.CreationTimestamp.UnixMilli(), Unschedulable: n.Spec.Unschedulable,
		System: slices.DeleteFunc([]string{i.KubeletVersion, i.OSImage, i.Architecture, i.ContainerRuntimeVersion}, func(s string) bool { return s == "" }),
		Taints: []string{}, Conditions: []fleetview.Condition{}, Rows: []fleetview.Row{}, Events: []fleetview.Event{}}
	for i := range n.Spec.Taints {
		d.Taints = append(d.Taints, n.Spec.Taints[i].ToString())
	}
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		good := corev1.ConditionFalse
		if c.Type == corev1.NodeReady {
			good = corev1.ConditionTrue
		}
		d.Conditions = append(d.Conditions, fleetview.Condition{Type: string(c.Type), Status: string(c.Status), Reason: c.Reason, Message: c.Message,
			Since: millis(c.LastTransitionTime.Time), Bad: c.Status != good})
	}
	return d
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func rowOf(r *why.Row, state fleetview.CellState) fleetview.Row {
	out := fleetview.Row{Set: r.Namespace + "/" + r.DaemonSet, Pod: r.Pod, State: int(state), Reason: r.Reason, Why: r.Why, Detail: r.Detail,
		Change: r.Change, Commands: r.Commands, Log: hasLog(r)}
	if r.Since != nil {
		out.Since = millis(*r.Since)
	}
	return out
}

// maxEvents is how many events about one object are shown, the last ones.
const maxEvents = 20

// Events returns the last events about a DaemonSet.
func (f *Fleet) Events(ctx context.Context, namespace, name string) (*fleetview.Events, error) {
	if f.stand(namespace, name) == nil {
		return nil, fmt.Errorf("DaemonSet %s/%s: %w", namespace, name, fleetview.ErrUnknown)
	}
	all, err := events(ctx, f.client, namespace, "DaemonSet", name)
	if err != nil {
		return nil, fmt.Errorf("list the events of DaemonSet %s/%s: %w", namespace, name, err)
	}
	return &fleetview.Events{Events: all}, nil
}

func (f *Fleet) stand(namespace, name string) *stand {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known.stands[types.NamespacedName{Namespace: namespace, Name: name}]
}

func events(ctx context.Context, client kubernetes.Interface, namespace, kind, name string) ([]fleetview.Event, error) {
	about := fields.Set{"involvedObject.kind": kind, "involvedObject.name": name}
	list, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: about.AsSelector().String()})
	if err != nil {
		return []fleetview.Event{}, err
	}
	all := make([]fleetview.Event, 0, len(list.Items))
	for i := range list.Items {
		e := &list.Items[i]
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = e.EventTime.Time
		}
		if e.Series != nil {
			at = e.Series.LastObservedTime.Time
		}
		all = append(all, fleetview.Event{At: millis(at), Type: e.Type, Reason: e.Reason, Message: e.Message, From: cmp.Or(e.ReportingController, e.Source.Component), Count: int(e.Count)})
	}
	slices.SortStableFunc(all, func(a, b fleetview.Event) int { return cmp.Compare(b.At, a.At) })
	return all[:min(len(all), maxEvents)], nil
}

// noLog reports whether the text is a kubelet's answer when its node no longer has the log. The kubelet returns that
// not as an error, but as if the container had printed it.
func noLog(text string) bool {
	return strings.HasPrefix(text, "unable to retrieve container logs for ") || strings.HasPrefix(text, "failed to try resolving symlinks in path ")
}

// How much of a log is read: lines and bytes.
const (
	logLines = 20
	logBytes = 64 << 10
)

// Log returns the last lines of the container that keeps the DaemonSet's pod on the node from being available. If the
// container runs again after it ended, they are from its previous run.
func (f *Fleet) Log(ctx context.Context, namespace, name, node string) (*fleetview.Log, error) {
	at, err := f.container(namespace, name, node)
	if err != nil {
		return nil, err
	}
	text, err := f.readLog(ctx, namespace, at)
	if at.Previous && (err != nil || noLog(text)) {
		at.Previous = false
		text, err = f.readLog(ctx, namespace, at)
	}
	if err != nil {
		return nil, fmt.Errorf("read the log of container %s of pod %s/%s: %w", at.Container, namespace, at.Pod, err)
	}
	if noLog(text) {
		return nil, fmt.Errorf("the node has no log of container %s of pod %s/%s: %s", at.Container, namespace, at.Pod, strings.TrimSpace(text))
	}
	at.Lines = []string{}
	if text = strings.TrimRight(text, "\n"); text != "" {
		at.Lines = strings.Split(text, "\n")
	}
	return at, nil
}

// container returns the container whose log shows the most, as a Log without lines.
func (f *Fleet) container(namespace, name, node string) (*fleetview.Log, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.known.stands[types.NamespacedName{Namespace: namespace, Name: name}]
	if d == nil {
		return nil, fmt.Errorf("DaemonSet %s/%s: %w", namespace, name, fleetview.ErrUnknown)
	}
	i := slices.IndexFunc(d.rows, func(r why.Row) bool { return r.Node == node })
	if i < 0 || d.rows[i].Pod == "" && d.rows[i].Cause == nil {
		return nil, fmt.Errorf("a pod of DaemonSet %s/%s on node %s: %w", namespace, name, node, fleetview.ErrUnknown)
	}
	r := d.heard(&d.rows[i])
	if c := r.Cause; c != nil && c.Container != "" {
		return &fleetview.Log{Pod: c.Pod, Container: c.Container, Previous: c.EndedBefore() && r.Reason != plan.UpToDate.String()}, nil
	}
	pod := d.pods[r.Pod]
	if pod == nil || len(pod.Spec.Containers) == 0 {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, r.Pod, fleetview.ErrUnknown)
	}
	return &fleetview.Log{Pod: pod.Name, Container: pod.Spec.Containers[0].Name}, nil
}

func (f *Fleet) readLog(ctx context.Context, namespace string, at *fleetview.Log) (text string, err error) {
	lines, size := int64(logLines), int64(logBytes)
	stream, err := f.client.CoreV1().Pods(namespace).GetLogs(at.Pod, &corev1.PodLogOptions{Container: at.Container, Previous: at.Previous, TailLines: &lines, LimitBytes: &size}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	all, err := io.ReadAll(io.LimitReader(stream, logBytes))
	return string(all), err
}
