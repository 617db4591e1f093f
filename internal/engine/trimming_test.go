package engine

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/util/framer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	clientwatch "k8s.io/client-go/rest/watch"
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

// What is decoded from a watch does not change with the events after it, which come in the same buffer.
func TestEventsAreCopies(t *testing.T) {
	bookmark := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
	expired := &metav1.Status{Status: "Failure", Reason: metav1.StatusReasonExpired, Message: "too old", Code: 410}
	events := []struct {
		kind   watch.EventType
		object runtime.Object
	}{{watch.Added, fullPod("a")}, {watch.Modified, fullNode("n")}, {watch.Bookmark, bookmark}, {watch.Error, expired}}
	var stream bytes.Buffer
	frames := framer.NewLengthDelimitedFrameWriter(&stream)
	for _, e := range append(events, events...) {
		if _, err := frames.Write(encodedEvent(t, string(e.kind), encoded(t, e.object))); err != nil {
			t.Fatal(err)
		}
	}
	_, ours := streamed(t)
	from := streaming.NewDecoder(framer.NewLengthDelimitedFrameReader(io.NopCloser(&stream)), ours)
	decoder := clientwatch.NewDecoder(from, newTrimmer(codec()))
	var got []runtime.Object
	for i, e := range append(events, events...) {
		kind, object, err := decoder.Decode()
		if err != nil || kind != e.kind {
			t.Fatalf("event %d: %s, %v; want %s", i, kind, err, e.kind)
		}
		got = append(got, object)
	}
	for i, object := range got {
		_, want := trimmed(t, events[i%len(events)].object)
		if diff := cmp.Diff(want, object); diff != "" {
			t.Errorf("event %d (-alone +in the stream):\n%s", i, diff)
		}
	}
}

// Where both decoders read an event, they read the same. The engine's does not look at what it does not need.
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
		if errTheirs == nil && (errOurs != nil || want.Type != got.Type || string(want.Object.Raw) != string(got.Object.Raw)) {
			t.Errorf("%+v, %v; client-go: %+v", got, errOurs, want)
		}
	})
}
