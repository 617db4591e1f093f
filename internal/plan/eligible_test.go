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

// Of several labels that a node lacks the same one is shown each time.
func TestUnselectedKeyDoesNotChange(t *testing.T) {
	p := Placement{Selector: map[string]string{"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "1"}}
	for range 50 { // a map's order changes from one look to the next
		if got := p.Admits(&Node{Name: "n"}); got.Run || got.Detail != "a=1" {
			t.Fatalf("%+v, want the first label by name", got)
		}
	}
}
