package audit

import (
	"bufio"
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"everynode/internal/view"
)

// Read adds the objects of a manifest, in YAML or JSON, which may have many documents and lists: DaemonSets, Nodes,
// ConfigMaps, Secrets (only whether they are immutable), RolloutPolicies and pods of DaemonSets. It returns how many
// objects of other kinds there are. A DaemonSet with an unknown field is an error: it would be judged as if the field
// were left out.
func (in *Input) Read(manifest []byte) (others int, err error) {
	documents := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for i := 1; ; i++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return others, nil
		}
		if err != nil {
			return others, fmt.Errorf("document %d: %w", i, err)
		}
		data, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return others, fmt.Errorf("document %d: %w", i, err)
		}
		if bytes.Equal(data, []byte("null")) {
			continue // only comments
		}
		n, err := in.object(data, metav1.TypeMeta{})
		if err != nil {
			return others, fmt.Errorf("document %d: %w", i, err)
		}
		others += n
	}
}

// identity is the part of an object that is decoded first. Of some kinds nothing else is needed.
type identity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// Immutable is raw, since objects of other kinds may have anything there.
	Immutable stdjson.RawMessage `json:"immutable"`
	Items     stdjson.RawMessage `json:"items"`
}

// object adds one object, or those of a list. Items of a list need not name their kind: unless is the kind of those.
func (in *Input) object(data []byte, unless metav1.TypeMeta) (others int, err error) {
	var o identity
	if err := stdjson.Unmarshal(data, &o); err != nil {
		return 0, fmt.Errorf("it is not an object of Kubernetes: %w", err)
	}
	if o.Kind == "" {
		o.TypeMeta = unless
	}
	if o.Kind == "" || o.APIVersion == "" {
		return 0, errors.New("it is not an object of Kubernetes: it has no kind, or no apiVersion")
	}
	if of, list := strings.CutSuffix(o.Kind, "List"); list && bytes.HasPrefix(o.Items, []byte("[")) {
		return in.list(o.Items, metav1.TypeMeta{Kind: of, APIVersion: o.APIVersion})
	}
	switch group, _, _ := strings.Cut(o.APIVersion, "/"); {
	case o.Kind == "DaemonSet" && (group == appsv1.GroupName || group == "extensions"):
		return 0, in.daemonSet(data, &o)
	case o.Kind == view.PolicyKind && o.APIVersion == view.PolicyVersion:
		return 0, in.policy(data, o.Name)
	case o.APIVersion != "v1":
		return 1, nil
	}
	switch o.Kind {
	case "Node":
		var n corev1.Node
		if err := stdjson.Unmarshal(data, &n); err != nil {
			return 0, fmt.Errorf("node %s: %w", o.Name, err)
		}
		in.Nodes = append(in.Nodes, n)
	case string(ConfigMap), string(Secret):
		immutable := string(o.Immutable) == "true"
		in.Know(Ref{Kind(o.Kind), namespaceOf(o.Namespace), o.Name}, &immutable)
	case "Pod":
		in.AddPod(&o.ObjectMeta)
	default:
		return 1, nil
	}
	return 0, nil
}

func (in *Input) list(data []byte, of metav1.TypeMeta) (others int, err error) {
	var items []stdjson.RawMessage
	if err := stdjson.Unmarshal(data, &items); err != nil {
		return 0, fmt.Errorf("items: %w", err)
	}
	if of.Kind == "" {
		of = metav1.TypeMeta{} // a List of any kinds: each item names its own
	}
	for i, item := range items {
		n, err := in.object(item, of)
		if err != nil {
			return others, fmt.Errorf("item %d: %w", i+1, err)
		}
		others += n
	}
	return others, nil
}

func (in *Input) daemonSet(data []byte, o *identity) error {
	name := namespaceOf(o.Namespace) + "/" + o.Name
	if o.Name == "" {
		return errors.New("a DaemonSet has no metadata.name")
	}
	if o.APIVersion != appsv1.SchemeGroupVersion.String() {
		return fmt.Errorf("DaemonSet %s has apiVersion %s, which API servers no longer serve: use apps/v1", name, o.APIVersion)
	}
	var ds appsv1.DaemonSet
	strict, err := json.UnmarshalStrict(data, &ds)
	if err = errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("DaemonSet %s: %w", name, err)
	}
	for i := range in.DaemonSets {
		if other := &in.DaemonSets[i]; other.Name == ds.Name && namespaceOf(other.Namespace) == namespaceOf(ds.Namespace) {
			return fmt.Errorf("DaemonSet %s is given twice: leave one out", name)
		}
	}
	in.DaemonSets = append(in.DaemonSets, ds)
	return nil
}

// policy adds a RolloutPolicy. An invalid one is an error: if it had a typo, its guard would be judged as if it were
// left out.
func (in *Input) policy(data []byte, name string) error {
	var o view.RolloutPolicy
	strict, err := json.UnmarshalStrict(data, &o)
	if err = errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("RolloutPolicy %s: %w", name, err)
	}
	if _, wrong := view.Policy(&o); wrong != nil {
		return fmt.Errorf("RolloutPolicy %s: %s", name, strings.Join(wrong, "; "))
	}
	in.Policies = append(in.Policies, o)
	return nil
}

// Know records whether a ConfigMap or a Secret is immutable.
func (in *Input) Know(ref Ref, immutable *bool) {
	if in.Immutable == nil {
		in.Immutable = map[Ref]bool{}
	}
	in.Immutable[ref] = immutable != nil && *immutable
}

// AddPod records a pod, if a DaemonSet controls it.
func (in *Input) AddPod(pod *metav1.ObjectMeta) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != "DaemonSet" {
		return
	}
	in.Pods = append(in.Pods, Pod{Namespace: pod.Namespace, Owner: owner.UID, Hash: pod.Labels[appsv1.ControllerRevisionHashLabelKey], Created: pod.CreationTimestamp.Time})
}
