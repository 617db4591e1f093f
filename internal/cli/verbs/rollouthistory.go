package verbs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/cli/console"
	"everynode/internal/view"
)

// releaseHistory is what `rollout history` prints.
type releaseHistory struct {
	Release   currentRelease `json:"release"`
	Revisions []pastRevision `json:"revisions"`
	Requests  []pastRequest  `json:"requests"`
}

// currentRelease is the newest release, as far as its status tells. ReadySince is since when the condition Ready has its
// status: if it is true, since the end of that release, and if not, since the first release after the last one that
// ended began, or since the guard holds pods.
type currentRelease struct {
	Number     int       `json:"number"`
	Phase      string    `json:"phase"`
	Reason     string    `json:"reason,omitempty"`
	Ready      bool      `json:"ready"`
	ReadySince time.Time `json:"readySince,omitzero"`
	Wave       string    `json:"wave,omitempty"`
	WaveOpened time.Time `json:"waveOpened,omitzero"`
}

// pastRevision is a revision of a DaemonSet that still exists. Is names its role: stable, target, or both.
type pastRevision struct {
	Revision int64     `json:"revision"`
	Hash     string    `json:"hash"`
	Created  time.Time `json:"created"`
	Is       string    `json:"is,omitempty"`
	Images   []string  `json:"images,omitempty"`
	Cause    string    `json:"cause,omitempty"`
}

// pastRequest is a field of the spec, with the program that wrote it last, and when.
type pastRequest struct {
	Field   string    `json:"field"`
	Asked   string    `json:"asked"`
	Manager string    `json:"manager"`
	At      time.Time `json:"at"`
}

func (cmd rolloutCommands) historyCommand(f *rolloutFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "history ds/NAME",
		Short: "Show the release, the revisions of a DaemonSet, and what was asked for last",
		Long: `Show the newest release: its phase, since when it is Ready (complete, and nothing held) or is not, and
when its open wave was opened. Then the revisions of the DaemonSet that are kept, which of them is the stable one and
which the target, and of each request in the spec of its DaemonSetRollout by which program it was written, and when. By
whom stands in the audit log of the API server. How earlier releases went is not kept.`,
		Example:           "  everynode rollout history ds/agent -n monitoring",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cmd.complete(f),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := cmd.target(f, args[0])
			if err != nil {
				return err
			}
			t.explain("kubectl rollout history --namespace %s daemonset/%s", t.namespace, t.name)
			r, err := t.read(c.Context())
			if err != nil {
				return err
			}
			revisions, err := t.revisions(c.Context())
			if err != nil {
				return err
			}
			h := r.history(revisions)
			output, wide := formOf(f.output)
			return cmd.Print(output, h, func() error { return cmd.printHistory(h, wide) })
		},
	}
	console.OutputFlag(c, &f.output, "wide")
	return c
}

func (r *release) history(revisions []appsv1.ControllerRevision) *releaseHistory {
	h := &releaseHistory{Release: r.current(), Revisions: []pastRevision{}, Requests: r.requests()}
	for i := range revisions {
		v := &revisions[i]
		p := pastRevision{Revision: v.Revision, Hash: v.Labels[appsv1.ControllerRevisionHashLabelKey], Created: v.CreationTimestamp.Time,
			Images: view.RevisionImages(v), Cause: v.Annotations["kubernetes.io/change-cause"]}
		var is []string
		if p.Hash == r.state.Stable {
			is = append(is, "stable")
		}
		if p.Hash == r.state.Target {
			is = append(is, "target")
		}
		p.Is = strings.Join(is, ", ")
		h.Revisions = append(h.Revisions, p)
	}
	return h
}

func (r *release) current() currentRelease {
	s := &r.Status
	c := currentRelease{Number: s.Release, Phase: s.Phase, Reason: s.Reason}
	if ready := meta.FindStatusCondition(s.Conditions, view.ConditionReady); ready != nil {
		c.Ready, c.ReadySince = ready.Status == metav1.ConditionTrue, ready.LastTransitionTime.Time
	}
	if w := s.Wave; w != nil {
		c.Wave, c.WaveOpened = strings.Trim(w.Name+"/"+w.Group, "/"), timeOf(w.Opened)
	}
	return c
}

// requests returns the fields of the spec, with the writers that the API server has recorded.
func (r *release) requests() []pastRequest {
	all := []pastRequest{}
	var values map[string]json.RawMessage
	if data, err := json.Marshal(r.Spec); err != nil || json.Unmarshal(data, &values) != nil {
		return all
	}
	for _, m := range r.ManagedFields {
		var owned struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		for field := range owned.Spec {
			name := strings.TrimPrefix(field, "f:")
			if value, there := values[name]; there {
				all = append(all, pastRequest{name, string(bytes.ReplaceAll(value, []byte(`"`), nil)), m.Manager, timeOf(m.Time)})
			}
		}
	}
	slices.SortFunc(all, func(a, b pastRequest) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.Field, b.Field)) })
	return all
}

func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

// printHistory prints the history. With wide it also prints the times themselves.
func (cmd rolloutCommands) printHistory(h *releaseHistory, wide bool) error {
	if err := cmd.printCurrent(&h.Release, wide); err != nil {
		return err
	}
	more := func(cells []string, last string) []string {
		if wide {
			cells = append(cells, last)
		}
		return cells
	}
	t := console.NewTable(cmd.Out, more([]string{"REVISION", "HASH", "AGE", "IS", "IMAGES", "CAUSE"}, "CREATED")...)
	for i := range h.Revisions {
		v := &h.Revisions[i]
		t.Row(more([]string{fmt.Sprint(v.Revision), v.Hash, ago(&v.Created), console.OrNone(v.Is), console.OrNone(strings.Join(v.Images, ", ")), console.OrNone(v.Cause)}, stamp(v.Created))...)
	}
	if err := t.Flush(); err != nil || len(h.Requests) == 0 {
		return err
	}
	t = console.NewTable(cmd.Out, more([]string{"ASKED FOR", "VALUE", "AGE", "WITH"}, "AT")...)
	for i := range h.Requests {
		q := &h.Requests[i]
		t.Row(more([]string{q.Field, q.Asked, ago(&q.At), q.Manager}, stamp(q.At))...)
	}
	return t.Flush()
}

// printCurrent prints the newest release. With wide it prints times, otherwise how long ago they were.
func (cmd rolloutCommands) printCurrent(c *currentRelease, wide bool) error {
	since, opened := ago(&c.ReadySince), ago(&c.WaveOpened)
	if wide {
		since, opened = stamp(c.ReadySince), stamp(c.WaveOpened)
	}
	t := console.NewTable(cmd.Out, "RELEASE", "PHASE", "REASON", "READY", "SINCE", "WAVE", "OPENED")
	t.Row(fmt.Sprint(c.Number), c.Phase, console.OrNone(c.Reason), fmt.Sprint(c.Ready), since, console.OrNone(c.Wave), opened)
	return t.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return console.OrNone("")
	}
	return t.UTC().Format(time.RFC3339)
}
