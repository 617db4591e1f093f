package everynode_test

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"testing"
)

// maxMethods is how many methods a type may have. Whoever reads a method of a type must reckon with everything
// that the type's other methods do to the same fields. Up to this number a reader can hold them in mind; a type
// with more is several things that share one name, and each of them wants a name, a few fields and a file.
const maxMethods = 25

// manyMethods are the types that still have more, with the number that they have now. It only goes down: a type
// that has lost methods gets its new number here, and leaves the list when it is at the limit or below. New types do
// not get onto it.
var manyMethods = map[string]int{
	"internal/engine/api":     36,
	"internal/engine/applier": 38,
	"internal/engine/engine":  96,
	"internal/engine/index":   124,
	"internal/engine/state":   52,
	"internal/sim/checker":    50,
	"internal/sim/controller": 59,
	"internal/sim/index":      27,
	"internal/sim/kubelets":   33,
	"internal/sim/world":      47,
}

// countMethods returns how many methods each type has, by the folder of its package and its name.
func countMethods(sources []*source) map[string]int {
	methods := map[string]int{}
	for _, s := range sources {
		if s.test() {
			continue
		}
		for _, declaration := range s.file.Decls {
			if d, ok := declaration.(*ast.FuncDecl); ok && d.Recv != nil {
				methods[path.Join(s.dir(), receiverName(d.Recv.List[0].Type))]++
			}
		}
	}
	return methods
}

// receiverName returns the name of the type of a receiver, which may be a pointer, or have type parameters.
func receiverName(expression ast.Expr) string {
	for {
		switch e := expression.(type) {
		case *ast.StarExpr:
			expression = e.X
		case *ast.IndexExpr:
			expression = e.X
		case *ast.IndexListExpr:
			expression = e.X
		default:
			return rootName(expression)
		}
	}
}

// checkMethods finds types that have more methods than they may, and entries of the list that are out of date.
func checkMethods(methods, listed map[string]int) (wrong []string) {
	for name, n := range methods {
		if most := max(listed[name], maxMethods); n > most {
			wrong = append(wrong, fmt.Sprintf("%s has %d methods, at most %d: take out what has fields of its own, and give it a name", name, n, most))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		switch n := methods[name]; {
		case n <= maxMethods:
			wrong = append(wrong, fmt.Sprintf("%s has %d methods: take it off the list", name, n))
		case n < listed[name]:
			wrong = append(wrong, fmt.Sprintf("%s has %d methods: lower its number on the list from %d", name, n, listed[name]))
		}
	}
	slices.Sort(wrong)
	return wrong
}

func TestMethodsFinds(t *testing.T) {
	var sources []*source
	for name, text := range map[string]string{
		"a/a.go":      "package a\nfunc (t *T) one() {}\nfunc (T) two() {}\nfunc (l *List[E]) one() {}\nfunc f() {}",
		"a/b.go":      "package a\nfunc (t T) three() {}\nfunc (m Map[K, V]) one() {}",
		"a/a_test.go": "package a\nfunc (t T) four() {}",
		"b/b.go":      "package b\nfunc (t T) one() {}",
	} {
		s, err := parse(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	want := map[string]int{"a/T": 3, "a/List": 1, "a/Map": 1, "b/T": 1}
	if got := countMethods(sources); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	for _, tc := range []struct {
		has, listed int // 0: not there, not listed
		want        string
	}{
		{25, 0, ""},
		{26, 0, "p/T has 26 methods, at most 25: take out what has fields of its own, and give it a name"},
		{30, 30, ""},
		{31, 30, "p/T has 31 methods, at most 30: take out what has fields of its own, and give it a name"},
		{29, 30, "p/T has 29 methods: lower its number on the list from 30"},
		{25, 30, "p/T has 25 methods: take it off the list"},
		{0, 30, "p/T has 0 methods: take it off the list"},
	} {
		methods, listed := map[string]int{"p/T": tc.has}, map[string]int{}
		if tc.listed > 0 {
			listed["p/T"] = tc.listed
		}
		if found := fmt.Sprint(checkMethods(methods, listed)); found != "["+tc.want+"]" {
			t.Errorf("%d methods, listed with %d: found %s, want %q", tc.has, tc.listed, found, tc.want)
		}
	}
}
