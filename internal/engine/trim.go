package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/view"
)

// Most of what a watch delivers is never read: a node's images, a pod's containers, all managed fields. These parts are
// cut out of the encoded object before it is decoded, because decoding costs several times more than cutting.
// Everything that compactPod and compactNode read must be named here; TestTrim compares.

// mask says what to keep of a message, by field number. A field without an
// entry is left out.
type mask []*field

// of returns how to keep the field of that number; nil: it is left out.
func (f mask) of(number protowire.Number) *field {
	if int(number) >= len(f) {
		return nil
	}
	return f[number]
}

// field is how to keep a field: as it is, or only a part of the message in it.
type field struct {
	part mask
	// when, if not nil, says which of the values are kept.
	when func(value []byte) bool
	// rich, if not nil, is the part to keep of values for which are returns true.
	rich mask
	are  func(value []byte) bool
}

// The numbers are those of generated.proto in k8s.io/api and k8s.io/apimachinery.
func keptMeta() mask {
	return mask{
		1: {}, 3: {}, 5: {}, 6: {}, 8: {}, 9: {}, 10: {}, // name, namespace, uid, resourceVersion, creation and deletion
		11: {}, 13: {}, 14: {}, // labels, ownerReferences, finalizers
		12: {when: told}, // annotations
	}
}

// wasChanged reports whether an encoded pod was changed in place, or looks like it, by its annotations.
func wasChanged(pod []byte) (changed bool) {
	eachField(pod, func(number protowire.Number, _ protowire.Type, value []byte) bool {
		if number != 1 {
			return true
		}
		metadata, _ := protowire.ConsumeBytes(value)
		eachField(metadata, func(number protowire.Number, _ protowire.Type, value []byte) bool {
			changed = number == 12 && bytes.Contains(value, []byte(view.ChangedAnnotation))
			return !changed
		})
		return false
	})
	return changed
}

// eachField calls see with each field of an encoded message, as it stands behind its tag, until see returns false. It
// reports whether the message could be read so far.
func eachField(message []byte, see func(number protowire.Number, kind protowire.Type, value []byte) bool) bool {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return false
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return false
		}
		if !see(number, kind, message[tag:tag+size]) {
			return true
		}
		message = message[tag+size:]
	}
	return true
}

// told selects the relevant annotations: by one of them a watch says that its list is complete; the other is on pods
// that were changed in place.
func told(value []byte) bool {
	return bytes.Contains(value, []byte(metav1.InitialEventsAnnotationKey)) || bytes.Contains(value, []byte(view.ChangedAnnotation))
}

// keptCondition is type, status and lastTransitionTime, of pods and nodes alike;
// keptPodCondition has the reason as well.
func keptCondition() mask    { return mask{1: {}, 2: {}, 4: {}} }
func keptPodCondition() mask { return mask{1: {}, 2: {}, 4: {}, 5: {}} }

func keptPod() mask {
	return mask{
		1: {part: keptMeta()},
		2: {part: mask{10: {}, 18: {part: mask{1: {}}}}}, // spec: nodeName, affinity.nodeAffinity
		// status: phase, conditions, reason, startTime; of containers that have trouble, see keptContainer
		3: {part: mask{1: {}, 2: {part: keptPodCondition()}, 4: {}, 7: {}, 8: keptContainer(), 10: keptContainer()}},
	}
}

// keptChangedPod is keptPod for pods that were changed in place: the progress of the change is in the statuses of all
// containers, and in the generation of the pod that they refer to.
func keptChangedPod() mask {
	kept, container := keptPod(), &field{part: mask{1: {}, 2: {}, 3: {part: mask{3: keptEnd()}}, 4: {}, 5: {}, 7: {}, 9: {}, 8: {}}} // name, state, lastState, ready, restartCount, imageID, started, containerID
	kept[3] = &field{part: mask{1: {}, 2: {part: keptPodCondition()}, 4: {}, 7: {}, 8: container, 10: container, 17: {}}}
	return kept
}

// keptContainer keeps which container it is, why it waits or has ended, how it ended before, whether it is ready, and
// how often it has restarted.
func keptContainer() *field {
	state := mask{1: {part: mask{1: {}}}, 3: keptEnd()}
	return &field{part: mask{1: {}, 2: {part: state}, 3: {part: mask{3: keptEnd()}}, 4: {}, 5: {}}, when: startsBadly}
}

// keptEnd keeps exit code and reason.
func keptEnd() *field { return &field{part: mask{1: {}, 3: {}}} }

// startsBadly reports whether an encoded container status, with its tag, shows a restart, or a wait or an end for a
// reason that not every container goes through: there is nothing to read in the others.
func startsBadly(whole []byte) (bad bool) {
	_, _, tag := protowire.ConsumeTag(whole)
	status, _ := protowire.ConsumeBytes(whole[max(tag, 0):])
	read := eachField(status, func(number protowire.Number, _ protowire.Type, value []byte) bool {
		restarts, _ := protowire.ConsumeVarint(value)
		bad = number == 5 && restarts > 0 || number == 2 && isTold(value)
		return !bad
	})
	return bad || !read // the decoder says what is wrong
}

// isTold reports whether an encoded state, with its length, has a reason: 1 means that the container waits, 3 that it
// has ended.
func isTold(value []byte) bool {
	state, _ := protowire.ConsumeBytes(value)
	switch number, _, _ := protowire.ConsumeTag(state); number {
	case 1:
		return !bytes.Contains(state, []byte("ContainerCreating")) && !bytes.Contains(state, []byte("PodInitializing"))
	case 3:
		return !bytes.Contains(state, []byte("Completed"))
	}
	return false
}

func keptNode() mask {
	return mask{
		1: {part: keptMeta()},
		2: {part: mask{5: {}}},                      // spec: taints
		3: {part: mask{4: {part: keptCondition()}}}, // status: conditions
	}
}

// trim appends to out what is to be kept of an encoded message.
func (f mask) trim(out, message []byte) ([]byte, error) {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil, protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		whole := message[:tag+size]
		message = message[tag+size:]
		keep := f.of(number)
		switch {
		case keep == nil || keep.when != nil && !keep.when(whole):
		case keep.part == nil || kind != protowire.BytesType:
			out = append(out, whole...)
		default:
			value, _ := protowire.ConsumeBytes(whole[tag:])
			var err error
			part := keep.part
			if keep.rich != nil && keep.are(value) {
				part = keep.rich
			}
			if out, err = part.trimInto(append(out, whole[:tag]...), value); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// trimInto appends the trimmed message with its length before it.
func (f mask) trimInto(out, message []byte) ([]byte, error) {
	start := len(out)
	out, err := f.trim(out, message)
	if err != nil {
		return nil, err
	}
	var length [binary.MaxVarintLen64]byte
	return slices.Insert(out, start, length[:binary.PutUvarint(length[:], uint64(len(out)-start))]...), nil
}

// trimmer is a decoder of Kubernetes' protobuf encoding that leaves out the parts of pods and nodes that are never
// read. It decodes everything else completely.
type trimmer struct {
	runtime.Serializer
	kinds map[string]mask // of the envelope
	room  *sync.Pool
}

func newTrimmer(inner runtime.Serializer) trimmer {
	pod := &field{part: keptPod(), rich: keptChangedPod(), are: wasChanged}
	node, about := &field{part: keptNode()}, &field{part: mask{1: {part: keptMeta()}}}
	envelope := func(object *field) mask { return mask{1: {}, 2: object, 3: {}, 4: {}} }
	list := func(item *field) mask { return envelope(&field{part: mask{1: {}, 2: item}}) }
	return trimmer{Serializer: inner, room: &sync.Pool{New: func() any { return new([]byte) }}, kinds: map[string]mask{
		"Pod": envelope(pod), "Node": envelope(node), "PodList": list(pod), "NodeList": list(node),
		"PartialObjectMetadataList": list(about),
	}}
}

// magic is the prefix of Kubernetes' protobuf encoding.
const magic = "k8s\x00"

// Decode implements runtime.Decoder. It keeps no reference to data.
func (t trimmer) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	room := t.room.Get().(*[]byte)
	defer t.room.Put(room)
	trimmed, err := t.trim((*room)[:0], data)
	if err != nil {
		return nil, nil, fmt.Errorf("reading an encoded object: %w", err)
	}
	if trimmed == nil {
		return t.Serializer.Decode(data, defaults, into)
	}
	*room = trimmed
	return t.Serializer.Decode(trimmed, defaults, into)
}

// trim appends a trimmed envelope; nil when the object is of another kind. The
// envelope is runtime.Unknown: 1 is the type (1 apiVersion, 2 kind), 2 the object.
func (t trimmer) trim(out, data []byte) ([]byte, error) {
	envelope, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return nil, nil
	}
	number, _, n := protowire.ConsumeTag(envelope)
	if n < 0 || number != 1 {
		return nil, nil
	}
	about, n := protowire.ConsumeBytes(envelope[n:])
	if n < 0 {
		return nil, protowire.ParseError(n)
	}
	kept, ok := t.kinds[typeOf(about)]
	if !ok {
		return nil, nil
	}
	return kept.trim(append(out, magic...), envelope)
}

// typeOf returns the kind in an encoded TypeMeta of the core group or of metadata; empty
// for others.
func typeOf(about []byte) string {
	version, kind := "", ""
	for len(about) > 0 {
		number, _, tag := protowire.ConsumeTag(about)
		if tag < 0 {
			return ""
		}
		value, n := protowire.ConsumeBytes(about[tag:])
		if n < 0 {
			return ""
		}
		switch number {
		case 1:
			version = string(value)
		case 2:
			kind = string(value)
		}
		about = about[tag+n:]
	}
	if version != "v1" && version != metav1.SchemeGroupVersion.String() {
		return ""
	}
	return kind
}
