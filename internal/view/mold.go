package view

import (
	"encoding/binary"
	"fmt"
	"math/bits"

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
	meta, spec := len(m.meta)+fieldSize(len(name)), len(m.spec)+fieldSize(len(node))
	pod := fieldSize(meta) + fieldSize(spec)
	out := make([]byte, 0, len(protobufMagic)+fieldSize(len(m.kind))+fieldSize(pod))
	out = appendField(append(out, protobufMagic...), unknownType, m.kind)
	out = appendHead(out, unknownObject, pod)
	out = appendField(append(appendHead(out, podMeta, meta), m.meta...), metaName, name)
	return appendField(append(appendHead(out, podSpec, spec), m.spec...), specNodeName, node)
}

const (
	// protobufMagic is the prefix of Kubernetes' protobuf encoding.
	protobufMagic = "k8s\x00"
	lengthPrefix  = 2 // the wire type of bytes and messages
)

// appendField appends a field of bytes, whose number is below 16.
func appendField[T string | []byte](to []byte, number byte, value T) []byte {
	return append(appendHead(to, number, len(value)), value...)
}

// appendHead appends the tag and the length of such a field, whose content has that size.
func appendHead(to []byte, number byte, size int) []byte {
	return binary.AppendUvarint(append(to, number<<3|lengthPrefix), uint64(size))
}

// fieldSize returns the encoded size of such a field, tag and length included, whose content has that size.
func fieldSize(size int) int {
	length := (bits.Len(uint(size)|1) + 6) / 7 // of a varint
	return 1 + length + size
}
