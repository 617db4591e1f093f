package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	list, err := parse("# head\n\n== one\nin a/b.go\nby TestA/b\n-x\n-\ty\n+z\n\n== two\nin c.go\n-gone\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []mutant{
		{name: "one", line: 3, file: "a/b.go", by: "TestA/b", from: "x\n\ty", to: "z"},
		{name: "two", line: 10, file: "c.go", from: "gone"},
	}
	if !slices.Equal(list, want) {
		t.Errorf("%+v, want %+v", list, want)
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"-x":                          "line 1: \"-x\" stands before the first mutant",
		"== a\n-x\n+y":                "names no file",
		"== a\nin f\n+y":              "does not say what it changes",
		"== a\nin f\n-x\n+x":          "changes nothing",
		"== a\nin f\n-x\n== a\nin f":  "line 4: a second mutant is called \"a\"",
		"== a\nin f\n-x\n+y\nwhat is": "line 5: \"what is\" is neither",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestApply(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "f"), []byte("one two two"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := mutant{name: "m", file: "f", from: "one", to: "1"}
	if text, err := m.apply(root); err != nil || text != "1 two two" {
		t.Errorf("%q, %v", text, err)
	}
	for from, want := range map[string]string{"two": "is 2 times", "three": "is 0 times"} {
		m.from = from
		if err := checkAll([]mutant{m}, root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", from, err, want)
		}
	}
	m.file = "missing"
	if err := checkAll([]mutant{m}, root); err == nil {
		t.Error("a missing file is not an error")
	}
}

func TestFailures(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n    --- FAIL: TestA/y (0.00s)\n--- FAIL: TestB (0.1s)\nFAIL\n": "TestA/x TestA/y TestB",
		"panic: test timed out after 2m\n\ngoroutine 1": "panic: test timed out after 2m",
		"\x00": "a test that left no name",
	} {
		if got := strings.Join(failures([]byte(out)), " "); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

// module returns a small module in place of the repository. Its first test is quick,
// and the other one only runs in the thorough pass.
func module(t *testing.T) (root string) {
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"p/p.go": "package p\n\nfunc Add(a, b int) int { return a + b }\n\nfunc Sub(a, b int) int { return a - b }\n",
		"p/a_test.go": "package p\n\nimport (\n\t\"flag\"\n\t\"testing\"\n)\n\nvar _ = flag.Int(\"rapid.checks\", 0, \"\")\nvar _ = flag.Int(\"rapid.seed\", 0, \"\")\n" +
			"var _ = flag.Bool(\"rapid.nofailfile\", false, \"\")\nvar _ = flag.String(\"rapid.shrinktime\", \"\", \"\")\n\n" +
			"func TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Error(1)\n\t}\n}\n\n" +
			"func TestTwo(t *testing.T) {\n\tif Add(1, 1) > 2 || Add(1, 1) < 1 {\n\t\tt.Error(1)\n\t}\n}\n",
		// The flags of properties do not exist in a package without properties.
		"q/q.go":               "package q\n\nfunc Neg(a int) int { return -a }\n",
		"q/q_test.go":          "package q\n\nimport \"testing\"\n\nfunc TestNeg(t *testing.T) {\n\tif Neg(1) != -1 {\n\t\tt.Error(1)\n\t}\n}\n",
		"p/b_upstream_test.go": "package p\n\nimport \"testing\"\n\nfunc TestSub(t *testing.T) {\n\tif Sub(0, 0) != 0 {\n\t\tt.Error(1)\n\t}\n}\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// One defect is seen by the quick pass, one only by the thorough pass, one by no
// test, and one does not compile.
func TestBench(t *testing.T) {
	b := &bench{root: module(t), temp: t.TempDir()}
	for _, c := range []struct{ file, from, to, first, want string }{
		{"p/p.go", "a + b", "a * b", "", "TestAdd"},
		{"p/p.go", "a + b", "a - b", "TestAdd", "TestAdd"},          // the test that runs first
		{"p/p.go", "a + b", "a - b", "TestGone", "TestAdd TestTwo"}, // one that no longer exists
		{"p/p.go", "a + b", "a - b", "TestTwo", "TestTwo"},          // one of two that notice
		{"p/p.go", "a - b", "a - b + 1", "", "TestSub (thorough)"},
		{"p/p.go", "a - b", "b - a", "", ""},
		{"p/p.go", "a - b", "a - c", "", "error"},
		{"q/q.go", "-a", "a", "", "TestNeg"},
		{"q/q.go", "-a", "0 - a", "", ""},
	} {
		m := mutant{file: c.file, from: c.from, to: c.to}
		text, err := m.apply(b.root)
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.test(t.Context(), 0, m.file, text, c.first)
		got := killers(o)
		if err != nil {
			got = "error"
		} else if len(o.failed) == 0 {
			got = ""
		}
		if got != c.want {
			t.Errorf("%s for %s: %q (%v), want %q", c.to, c.from, got, err, c.want)
		}
	}
	if err := tryAll(t.Context(), b, []mutant{{name: "m", file: "p/p.go", from: "a - b", to: "b - a"}}); err == nil || !strings.Contains(err.Error(), "no test notices: m") {
		t.Errorf("one is alive: %v", err)
	}
	if err := tryAll(t.Context(), b, []mutant{{name: "m", file: "p/p.go", from: "a + b", to: "b"}}); err != nil {
		t.Errorf("none is alive: %v", err)
	}
}
