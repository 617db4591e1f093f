package plan

import "testing"

// Terms may ask for metadata.name only. A field that is not there is empty, as
// it is for the scheduler: it is in no list of names, and not in any.
func TestFieldsOfATerm(t *testing.T) {
	for _, c := range []struct {
		key    string
		op     Operator
		value  string
		admits bool
	}{
		{"", In, "n", true},
		{nameField, In, "n", true},
		{nameField, NotIn, "n", false},
		{"metadata.uid", In, "n", false},
		{"metadata.uid", NotIn, "n", true},
		{"metadata.uid", In, "", true},
		{nameField, Exists, "n", false},
	} {
		p := Placement{Terms: []Term{{Names: []Requirement{{Key: c.key, Operator: c.op, Values: []string{c.value}}}}}}
		if got := p.Admits(&Node{Name: "n", UID: "n"}); got.Run != c.admits {
			t.Errorf("%q %d %q: %+v", c.key, c.op, c.value, got)
		}
	}
}
