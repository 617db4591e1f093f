package view

import (
	"strings"
	"testing"
)

func TestSameTemplate(t *testing.T) {
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
		"defaults":      {container(""), container(`,"imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log"`), true},
		"no default":    {container(""), container(`,"imagePullPolicy":"Always"`), false},
		"image":         {container(""), strings.Replace(container(""), "i:1", "i:2", 1), false},
		"labels":        {container(""), strings.Replace(container(""), `"b"`, `"c"`, 1), false},
		"ports":         {container(`,"ports":[{"containerPort":1}]`), container(`,"ports":[{"containerPort":1,"protocol":"TCP"}]`), true},
		"udp":           {container(`,"ports":[{"containerPort":1}]`), container(`,"ports":[{"containerPort":1,"protocol":"UDP"}]`), false},
	} {
		if got := SameTemplate(wrap(c.a), wrap(c.b)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := SameTemplate(wrap(c.b), wrap(c.a)); got != c.want {
			t.Errorf("%s, the other way round: %v, want %v", name, got, c.want)
		}
	}
}

// What no DaemonSet controller wrote equals only itself.
func TestSameTemplateOfStrangeData(t *testing.T) {
	good := []byte(`{"spec":{"template":{"$patch":"replace","spec":{"containers":null}}}}`)
	for _, bad := range []string{
		``, `null`, `{`, `[]`, `{"spec":{}}`, `{"spec":{"template":"x"}}`,
		`{"spec":{"template":{"spec":{"containers":null}}}}`,
		`{"spec":{"template":{"$patch":"merge","spec":{"containers":null}}}}`,
		`{"spec":{"template":{"$patch":"replace","spec":{"containers":7}}}}`,
	} {
		if SameTemplate([]byte(bad), good) || SameTemplate(good, []byte(bad)) {
			t.Errorf("%s equals a good one", bad)
		}
		if !SameTemplate([]byte(bad), []byte(bad)) {
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
