package plan

import "testing"

// Terms may only ask for metadata.name. Any other field is empty, as it is for the
// scheduler: it is not In a list of names, and NotIn any.
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

// If a node lacks several labels, the same one is reported each time.
func TestUnselectedKeyDoesNotChange(t *testing.T) {
	p := Placement{Selector: map[string]string{"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "1"}}
	for range 50 { // the order of a map changes from one iteration to the next
		if got := p.Admits(&Node{Name: "n"}); got.Run || got.Detail != "a=1" {
			t.Fatalf("%+v, want the first label by name", got)
		}
	}
}
