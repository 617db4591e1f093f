package verbs

import (
	"slices"
	"testing"
)

// The order of named items may matter, such as that of variables which refer to each other, so a change of it is
// shown.
func TestChangedOrder(t *testing.T) {
	env := func(names ...string) map[string]any {
		var all []any
		for _, name := range names {
			all = append(all, map[string]any{"name": name, "value": "v" + name})
		}
		return map[string]any{"env": all}
	}
	for _, test := range []struct {
		from, to []string
		want     []string
	}{
		{[]string{"A", "B"}, []string{"A", "B"}, nil},
		{[]string{"A", "B"}, []string{"B", "A"}, []string{"- spec.template.env: in the order A, B", "+ spec.template.env: in the order B, A"}},
		{[]string{"A", "B"}, []string{"C", "A", "B"}, []string{`+ spec.template.env[C].name: "C"`, `+ spec.template.env[C].value: "vC"`}},
		{[]string{"A", "A"}, []string{"A", "A"}, nil},
	} {
		if got := changed(env(test.from...), env(test.to...)); !slices.Equal(got, test.want) {
			t.Errorf("%v to %v: %q", test.from, test.to, got)
		}
	}
}
