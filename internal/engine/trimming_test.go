package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// streamed returns the decoder of a watch's events, as client-go has it and as the engine has it.
func streamed(tb testing.TB) (theirs, ours runtime.Serializer) {
	tb.Helper()
	inner := scheme.Codecs.WithoutConversion()
	find := func(from runtime.NegotiatedSerializer) runtime.Serializer {
		info, ok := runtime.SerializerInfoForMediaType(from.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
		if !ok || info.StreamSerializer == nil {
			tb.Fatal("there is no stream in protobuf")
		}
		return info.StreamSerializer.Serializer
	}
	return find(inner), find(newTrimming(inner))
}

func encodedEvent(tb testing.TB, kind string, object []byte) []byte {
	tb.Helper()
	data, err := (&metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: object}}).Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// A watch's event is the same with the engine's decoder, but its object is not copied.
func TestEventDecoder(t *testing.T) {
	theirs, ours := streamed(t)
	data := encodedEvent(t, "MODIFIED", encoded(t, fullPod("a")))
	var want, got metav1.WatchEvent
	if _, _, err := theirs.Decode(data, nil, &want); err != nil {
		t.Fatal(err)
	}
	if back, _, err := ours.Decode(data, nil, &got); err != nil || back != runtime.Object(&got) {
		t.Fatalf("%T, %v; client-go wants back what it gave", back, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if allocated := testing.AllocsPerRun(100, func() { _, _, _ = ours.Decode(data, nil, &got) }); allocated > 1 {
		t.Errorf("an event takes %v allocations; only that of its type is needed", allocated)
	}
}

// Where the engine's decoder reads an event, client-go's reads the same; and it says the same of what is broken.
func FuzzEventDecoder(f *testing.F) {
	f.Add(encodedEvent(f, "ADDED", encoded(f, fullPod("a"))))
	f.Add(encodedEvent(f, "", []byte("x")))
	f.Add(encodedEvent(f, "BOOKMARK", nil))
	f.Add([]byte{0x12, 0x05, 0x0a, 0x7f})
	theirs, ours := streamed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var want, got metav1.WatchEvent
		_, _, errTheirs := theirs.Decode(data, &schema.GroupVersionKind{}, &want)
		_, _, errOurs := ours.Decode(data, &schema.GroupVersionKind{}, &got)
		switch {
		case errTheirs != nil && errOurs == nil:
			return // the part that is not read is broken
		case (errTheirs == nil) != (errOurs == nil):
			t.Fatalf("%v; client-go: %v", errOurs, errTheirs)
		case errTheirs == nil && (want.Type != got.Type || string(want.Object.Raw) != string(got.Object.Raw)):
			t.Errorf("%+v; client-go: %+v", got, want)
		}
	})
}
