package engine

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// trimming is a NegotiatedSerializer whose protobuf decoder is a trimmer.
type trimming struct {
	runtime.NegotiatedSerializer
	infos []runtime.SerializerInfo
}

func newTrimming(inner runtime.NegotiatedSerializer) trimming {
	t := trimming{inner, slices.Clone(inner.SupportedMediaTypes())}
	for i := range t.infos {
		info := &t.infos[i]
		if info.MediaType != runtime.ContentTypeProtobuf {
			continue
		}
		info.Serializer = newTrimmer(info.Serializer)
		if info.StreamSerializer != nil {
			stream := *info.StreamSerializer
			stream.Serializer = eventDecoder{stream.Serializer}
			info.StreamSerializer = &stream
		}
	}
	return t
}

// SupportedMediaTypes implements runtime.NegotiatedSerializer. Every request calls it.
func (t trimming) SupportedMediaTypes() []runtime.SerializerInfo { return t.infos }

// eventDecoder decodes the events of a watch without copying the object in each. The object stays in data until it is
// decoded, which client-go does before it reads the next event into the same buffer.
type eventDecoder struct{ runtime.Serializer }

// Decode implements runtime.Decoder.
func (d eventDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	event, ok := into.(*metav1.WatchEvent)
	if ok && readEvent(data, event) {
		return event, defaults, nil
	}
	return d.Serializer.Decode(data, defaults, into) // which says what is wrong
}

// readEvent reads an encoded WatchEvent: 1 is its type, 2 the object, which is in field 1 of a RawExtension. It returns
// false if data is something else.
func readEvent(data []byte, into *metav1.WatchEvent) bool {
	kind, extension := content(data, 1), content(data, 2)
	object := content(extension, 1)
	if kind == nil || object == nil {
		return false
	}
	*into = metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: object}}
	return true
}

// content returns the bytes in the last field of that number; nil: there is none, or the message is broken.
func content(message []byte, number protowire.Number) (found []byte) {
	fits := true
	read := eachField(message, func(n protowire.Number, kind protowire.Type, value []byte) bool {
		if n == number {
			fits = kind == protowire.BytesType
			found, _ = protowire.ConsumeBytes(value)
		}
		return fits
	})
	if !read || !fits {
		return nil
	}
	return found
}
