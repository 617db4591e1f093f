package view

import (
	"bytes"
	"strings"
	"testing"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// sameTemplate is what templateDigest stands for, by the API's own comparison.
func sameTemplate(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ta, ok := readTemplate(a)
	if !ok {
		return false
	}
	tb, ok := readTemplate(b)
	if !ok {
		return false
	}
	setTemplateDefaults(ta)
	setTemplateDefaults(tb)
	return apiequality.Semantic.DeepEqual(ta, tb)
}

func sameDigest(a, b []byte) bool { return templateDigest(a) == templateDigest(b) }

func TestTemplateDigest(t *testing.T) {
	wrap := func(template string) []byte {
		return []byte(`{"spec":{"template":{"$patch":"replace",` + template + `}}}`)
	}
	container := func(fields string) string {
		return `"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i:1"` + fields + `}]}`
	}
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"same":          {container(""), container(""), true},
		"null time":     {container(""), strings.Replace(container(""), `{"labels"`, `{"creationTimestamp":null,"labels"`, 1), true},
		"empty objects": {container(""), container(`,"resources":{}`), true},
		"quantities":    {container(`,"resources":{"limits":{"cpu":"1000m"}}`), container(`,"resources":{"limits":{"cpu":"1"}}`), true},
		"other units":   {container(`,"resources":{"limits":{"memory":"1024","cpu":"0.5"}}`), container(`,"resources":{"limits":{"memory":"1Ki","cpu":"500m"}}`), true},
		"other amounts": {container(`,"resources":{"limits":{"memory":"1k"}}`), container(`,"resources":{"limits":{"memory":"1Ki"}}`), false},
		"moved":         {container(`,"args":["a"],"command":[]`), container(`,"args":[],"command":["a"]`), false},
		"joined":        {container(`,"args":["a","b"]`), container(`,"args":["ab"]`), false},
		"shared":        {container(""), strings.Replace(container(""), `"name":"c","image":"i:1"`, `"name":"ci","image":":1"`, 1), false},
		"absent":        {container(`,"args":[]`), container(""), true},
		"none":          {container(`,"securityContext":{"runAsUser":0}`), container(`,"securityContext":{}`), false},
		"defaults":      {container(""), container(`,"imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log"`), true},
		"no default":    {container(""), container(`,"imagePullPolicy":"Always"`), false},
		"image":         {container(""), strings.Replace(container(""), "i:1", "i:2", 1), false},
		"labels":        {container(""), strings.Replace(container(""), `"b"`, `"c"`, 1), false},
		"ports":         {container(`,"ports":[{"containerPort":1}]`), container(`,"ports":[{"containerPort":1,"protocol":"TCP"}]`), true},
		"udp":           {container(`,"ports":[{"containerPort":1}]`), container(`,"ports":[{"containerPort":1,"protocol":"UDP"}]`), false},
	} {
		if got := sameDigest(wrap(c.a), wrap(c.b)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := sameDigest(wrap(c.b), wrap(c.a)); got != c.want {
			t.Errorf("%s, the other way round: %v, want %v", name, got, c.want)
		}
	}
}

// Data that no DaemonSet controller wrote equals only itself.
func TestTemplateDigestOfStrangeData(t *testing.T) {
	good := []byte(`{"spec":{"template":{"$patch":"replace","spec":{"containers":null}}}}`)
	for _, bad := range []string{
		``, `null`, `{`, `[]`, `{"spec":{}}`, `{"spec":{"template":"x"}}`,
		`{"spec":{"template":{"spec":{"containers":null}}}}`,
		`{"spec":{"template":{"$patch":"merge","spec":{"containers":null}}}}`,
		`{"spec":{"template":{"$patch":"replace","spec":{"containers":7}}}}`,
	} {
		if sameDigest([]byte(bad), good) || sameDigest(good, []byte(bad)) {
			t.Errorf("%s equals a good one", bad)
		}
		if !sameDigest([]byte(bad), []byte(bad)) {
			t.Errorf("%s does not equal itself", bad)
		}
	}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]string{
		"busybox": "Always", "busybox:latest": "Always", "busybox:1.36": "IfNotPresent",
		"reg:5000/busybox": "Always", "reg:5000/busybox:1": "IfNotPresent", "busybox@sha256:abc": "IfNotPresent",
		"busybox:latest@sha256:abc": "Always", "": "IfNotPresent",
	} {
		if got := string(pullPolicy(image)); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
