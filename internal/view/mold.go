package view

import (
	"encoding/binary"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"everynode/internal/plan"
)

// Mold is what the pods of one revision have in common, encoded once. Two pods of a
// fleet differ only in their name and node.
type Mold struct {
	kind, meta, spec []byte
}

// NewMold returns the mold of the pods that NewPod makes for these arguments, if they
// are bound when they are created.
func NewMold(ds *appsv1.DaemonSet, hash string) (*Mold, error) {
	pod := NewPod(ds, hash, plan.Create{}, "")
	kind, err := (&runtime.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Pod"}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the type of a pod: %w", err)
	}
	meta, err := pod.ObjectMeta.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the metadata of the pods: %w", err)
	}
	spec, err := pod.Spec.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the template of the pods: %w", err)
	}
	return &Mold{kind: kind, meta: meta, spec: spec}, nil
}

// The numbers of fields, from generated.proto in k8s.io/api and k8s.io/apimachinery.
// All of these fields are bytes or a message.
const (
	unknownType, unknownObject = 1, 2
	podMeta, podSpec           = 1, 2
	metaName                   = 1
	specNodeName               = 10
)

// Pod returns the pod in Kubernetes' protobuf encoding, as a request has it. Name and
// node are encoded a second time, after what is common: if a field comes twice, readers
// of protobuf take the last.
func (m *Mold) Pod(name, node string) []byte {
	meta := appendField(slices.Clip(m.meta), metaName, name)
	spec := appendField(slices.Clip(m.spec), specNodeName, node)
	pod := make([]byte, 0, len(meta)+len(spec)+2*maxFieldHead)
	pod = appendField(appendField(pod, podMeta, meta), podSpec, spec)
	out := make([]byte, 0, len(pod)+len(m.kind)+len(protobufMagic)+2*maxFieldHead)
	out = appendField(append(out, protobufMagic...), unknownType, m.kind)
	return appendField(out, unknownObject, pod)
}

const (
	// protobufMagic is the prefix of Kubernetes' protobuf encoding.
	protobufMagic = "k8s\x00"
	// maxFieldHead is the longest head of a field whose number is below 16.
	maxFieldHead = 1 + binary.MaxVarintLen64
	lengthPrefix = 2 // the wire type of bytes and messages
)

// appendField appends a field of bytes, whose number is below 16.
func appendField[T string | []byte](to []byte, number byte, value T) []byte {
	to = append(to, number<<3|lengthPrefix)
	return append(binary.AppendUvarint(to, uint64(len(value))), value...)
}
