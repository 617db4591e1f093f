package engine

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// podAnswers reads pods from the bodies of answers. A pod is a few kilobytes long, and client-go reads each answer into
// memory of its own, which grows while it reads: for a fleet of creates that is more garbage than everything else.
type podAnswers struct {
	room     *sync.Pool
	protobuf runtime.Decoder
	// other recognizes the encoding: whatever is between us and the server may prefer JSON.
	other runtime.Decoder
}

// newPodAnswers takes the serializers of the client that gets the answers.
func newPodAnswers(of runtime.NegotiatedSerializer) podAnswers {
	a := podAnswers{room: &sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 8<<10)) }}, other: scheme.Codecs.UniversalDeserializer()}
	a.protobuf = a.other
	if info, is := runtime.SerializerInfoForMediaType(of.SupportedMediaTypes(), runtime.ContentTypeProtobuf); is {
		a.protobuf = info.Serializer
	}
	return a
}

// read reads one pod and closes the body.
func (a podAnswers) read(body io.ReadCloser) (*corev1.Pod, error) {
	defer func() { _ = body.Close() }() // which says nothing about what was read
	room := a.room.Get().(*bytes.Buffer)
	defer a.room.Put(room)
	room.Reset()
	if _, err := room.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	decoder := a.other
	if bytes.HasPrefix(room.Bytes(), []byte(magic)) {
		decoder = a.protobuf
	}
	got, _, err := decoder.Decode(room.Bytes(), nil, nil)
	if err != nil {
		return nil, fmt.Errorf("decoding the answer: %w", err)
	}
	switch got := got.(type) {
	case *corev1.Pod:
		return got, nil
	case *metav1.Status:
		// Whether there is a pod now is open, whatever the code in it says: the answer itself was a success.
		return nil, fmt.Errorf("the server answered without a pod: %s %s: %s", got.Status, got.Reason, got.Message)
	default:
		return nil, fmt.Errorf("the server answered with %T instead of a pod", got)
	}
}
