package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"everynode/internal/view"
)

func TestPodAnswers(t *testing.T) {
	answers := newPodAnswers(newTrimming(scheme.Codecs.WithoutConversion()))
	pod := fullPod("a")
	pod.ManagedFields = nil // those of fullPod are not valid JSON
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	inJSON, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"protobuf": encoded(t, pod), "JSON": inJSON} {
		for range 2 { // the second in the memory of the first
			got, err := answers.read(io.NopCloser(iotest.OneByteReader(bytes.NewReader(data))))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(view.Pod(pod), view.Pod(got)); diff != "" {
				t.Errorf("%s (-sent +read):\n%s", name, diff)
			}
		}
	}
	lost := errors.New("connection reset")
	for name, c := range map[string]struct {
		body io.Reader
		want string
	}{
		"of something else": {bytes.NewReader(encoded(t, &corev1.ConfigMap{})), "*v1.ConfigMap instead of a pod"},
		"that breaks off":   {io.MultiReader(bytes.NewReader(inJSON[:100]), iotest.ErrReader(lost)), "reading the answer: connection reset"},
		"cut short":         {bytes.NewReader(encoded(t, pod)[:100]), "decoding the answer"},
		"with a status": {bytes.NewReader(encoded(t, &metav1.Status{Status: "Failure", Reason: "Timeout", Message: "try later", Code: 504})),
			"without a pod: Failure Timeout: try later"},
		"that is empty": {strings.NewReader(""), "decoding the answer"},
		"of a proxy":    {strings.NewReader("<html>"), "decoding the answer"},
	} {
		if got, err := answers.read(io.NopCloser(c.body)); got != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("an answer %s: %v, %v; want %q", name, got, err, c.want)
		}
	}
}

// Memory that is used again does not show in pods that were read from it.
func TestPodAnswersAreCopies(t *testing.T) {
	answers := newPodAnswers(newTrimming(scheme.Codecs.WithoutConversion()))
	read := func(name string) *corev1.Pod {
		got, err := answers.read(io.NopCloser(bytes.NewReader(encoded(t, fullPod(name)))))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := read("first")
	for range 10 {
		read("other")
	}
	if want := fullPod("first"); first.Name != want.Name || first.UID != want.UID {
		t.Errorf("the pod is now called %s, with the UID %s", first.Name, first.UID)
	}
}
