package fleet

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// All names that users write are in one domain. Names in formerDomain were used before, and still work. If
// both are set, the new one wins.
const (
	domain       = "everynode.io/"
	formerDomain = "everynode.dev/"
)

// LabelSimulated marks the Nodes that are simulated; its value is "true".
const LabelSimulated = domain + "simulated"

// Annotations that change the rules for one pod, or for every pod of one Node. The pod's annotation wins.
// They take the same values as the rules.
const (
	AnnotationStart = domain + "simulate-start"
	AnnotationReady = domain + "simulate-ready"
	AnnotationStop  = domain + "simulate-stop"
	AnnotationFail  = domain + "simulate-fail"
)

// AnnotationOff, with the value "true", makes a Node silent, as if it had lost power.
const AnnotationOff = domain + "simulate-off"

// former returns the former form of a name.
func former(name string) string { return formerDomain + strings.TrimPrefix(name, domain) }

// said returns the value of labels or annotations under a name, or under its former name.
func said(of map[string]string, name string) string {
	if value, ok := of[name]; ok {
		return value
	}
	return of[former(name)]
}

// Simulated reports whether a Node is simulated.
func Simulated(node *corev1.Node) bool { return said(node.Labels, LabelSimulated) == "true" }

// Off reports whether a Node was made silent.
func Off(node *corev1.Node) bool { return said(node.Annotations, AnnotationOff) == "true" }

// SetOff returns a merge patch for the annotations of a Node, to make it silent or to wake it up. It removes
// the annotation under its former name.
func SetOff(off bool) map[string]any {
	patch := map[string]any{AnnotationOff: nil, former(AnnotationOff): nil}
	if off {
		patch[AnnotationOff] = "true"
	}
	return patch
}

// OnlySimulated passes only simulated Nodes to a handler: the API server cannot select objects with either of
// two labels.
func OnlySimulated(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
	return cache.FilteringResourceEventHandler{Handler: handler, FilterFunc: func(obj any) bool {
		if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = unknown.Obj
		}
		node, ok := obj.(*corev1.Node)
		return ok && Simulated(node)
	}}
}

// simulatedNodes is a lister that returns only simulated nodes.
type simulatedNodes struct{ corelisters.NodeLister }

func (s simulatedNodes) Get(name string) (*corev1.Node, error) {
	node, err := s.NodeLister.Get(name)
	if err == nil && !Simulated(node) {
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	return node, err
}

// formerNames reports former names that are still in use, with an event on the object and in the log: once
// for all pods of an owner, and once for the labels of all Nodes.
type formerNames struct {
	events record.EventRecorder
	log    *slog.Logger

	mu   sync.Mutex
	told map[types.UID][]string // by the owner of a pod, or the Node; "" for all Nodes
}

// label reports a Node that is simulated only by the former label.
func (f *formerNames) label(node *corev1.Node) {
	if onlyFormer(node.Labels, LabelSimulated) {
		f.tell(node, "", "label", LabelSimulated)
	}
}

// rules reports the former annotations that change the rules of a pod.
func (f *formerNames) rules(node *corev1.Node, pod *corev1.Pod) {
	owner := pod.UID
	if ref := metav1.GetControllerOf(pod); ref != nil {
		owner = ref.UID
	}
	for _, name := range []string{AnnotationStart, AnnotationReady, AnnotationStop, AnnotationFail} {
		if onlyFormer(pod.Annotations, name) {
			f.tell(pod, owner, "annotation", name)
		}
		if onlyFormer(node.Annotations, name) {
			f.tell(node, node.UID, "annotation", name)
		}
	}
}

func onlyFormer(of map[string]string, name string) bool {
	_, now := of[name]
	_, before := of[former(name)]
	return before && !now
}

func (f *formerNames) tell(about runtime.Object, owner types.UID, what, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.told[owner], name) {
		return
	}
	if f.told == nil {
		f.told = map[types.UID][]string{}
	}
	f.told[owner] = append(f.told[owner], name)
	text := fmt.Sprintf("The %s %s is still understood; use its new name, %s", what, former(name), name)
	f.events.Event(about, corev1.EventTypeWarning, "FormerName", text)
	f.log.Warn(text)
}
