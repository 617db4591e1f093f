package fleetview

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the page's types as they are now")

// wireTypes is the file of the page's types.
const wireTypes = "../../ui/src/wire.ts"

// The types of the page match those of this package.
func TestTypesOfThePage(t *testing.T) {
	want := typescript(State{}, Change{}, NodeDetail{}, Events{}, Log{}, About{}, Action{}, Answer{})
	if *update {
		if err := os.WriteFile(wireTypes, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(wireTypes)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types are: go test ./internal/fleetview -update\n%s", wireTypes, want)
	}
}

// typescript returns the TypeScript types of values, and of everything that they
// contain.
func typescript(values ...any) []byte {
	w := &typeWriter{seen: map[reflect.Type]bool{}}
	for _, v := range values {
		w.add(reflect.TypeOf(v))
	}
	slices.Sort(w.texts)
	return []byte("// What the server sends. Made of the types of internal/fleetview: go test ./internal/fleetview -update\n" + strings.Join(w.texts, ""))
}

type typeWriter struct {
	seen  map[reflect.Type]bool
	texts []string
}

func (w *typeWriter) add(t reflect.Type) {
	if w.seen[t] {
		return
	}
	w.seen[t] = true
	var b strings.Builder
	fmt.Fprintf(&b, "\nexport interface %s {\n", t.Name())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		mark := ""
		if strings.Contains(options, "omit") {
			mark = "?"
		}
		fmt.Fprintf(&b, "  %s%s: %s\n", name, mark, w.of(f.Type, mark != ""))
	}
	b.WriteString("}\n")
	w.texts = append(w.texts, b.String())
}

// of returns the TypeScript for a type. What is encoded as text is a string.
func (w *typeWriter) of(t reflect.Type, optional bool) string {
	switch {
	case t == reflect.TypeFor[Cells](), t == reflect.TypeFor[Cell]():
		return "string"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Struct:
		w.add(t)
		return t.Name()
	case reflect.Pointer:
		if optional {
			return w.of(t.Elem(), false)
		}
		return w.of(t.Elem(), false) + " | null"
	case reflect.Slice:
		element := w.of(t.Elem(), true) // arrays have no holes
		return element + "[]"
	case reflect.Map:
		return "Record<string, " + w.of(t.Elem(), false) + ">"
	}
	panic("no type for " + t.String())
}
