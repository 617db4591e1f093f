package strictyaml

import (
	"errors"
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	type settings struct {
		A string `json:"a"`
		B []int  `json:"b"`
	}
	for _, c := range []struct{ text, a, want string }{
		{"a: x", "x", ""},
		{`{"a": "x", "b": [1]}`, "x", ""},
		{"# settings\n---\n# of ours\na: x\n---\n# the end\n", "x", ""},
		{"a: |\n  --- \n  y\n", "--- \ny\n", ""},
		{"", "", ""},
		{"# nothing\n", "", ""},
		{"a: x\n---\na: y\n", "", "more than one document"},
		{"a: x\n...\nb: [1]\n", "", "yaml"},
		{`{"a": "x"}{"b": [1]}`, "", "yaml"},
		{"{a: x} b: [1]\n", "", "yaml"},
		{"---\n---\na: x\n", "", "more than one document"},
		{"%YAML 1.1\n---\na: x\n", "x", ""},
		{"--- {a: x}\n", "x", ""},
		{"a: x\n...\n", "x", ""},
		{"a: x\n---\nkind: Other\n", "", "more than one document"},
		{"a: x\na: y\n", "", `"a" already set`},
		{"a: x\nc: y\n", "x", `unknown field "c"`},
		{"a: x\nA: y\n", "x", `unknown field "A"`},
		{"a: [x]\n", "", "cannot unmarshal array"},
		{"a: [x\n", "", "yaml"},
		{"- a\n", "", "cannot unmarshal array"},
	} {
		var s settings
		unknown, err := Unmarshal([]byte(c.text), &s)
		all := errors.Join(append(unknown, err)...)
		switch {
		case c.want == "" && all != nil:
			t.Errorf("%q: %v", c.text, all)
		case c.want != "" && (all == nil || !strings.Contains(all.Error(), c.want)):
			t.Errorf("%q: %v, want %s", c.text, all, c.want)
		case s.A != c.a && err == nil:
			t.Errorf("%q: a is %q, want %q", c.text, s.A, c.a)
		}
	}
}
