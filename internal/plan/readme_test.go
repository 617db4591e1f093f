package plan

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// covered returns what each script says that it covers: tests by kind and name, each
// with its scripts, in order.
func covered(t *testing.T) (tests map[string][]string, scripts []string) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tests = map[string][]string{}
	for _, file := range files {
		script, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		scripts = append(scripts, name)
		head, list, _ := strings.Cut(string(script.Comment), "Covers of upstream:\n")
		if strings.TrimSpace(head) == "" {
			t.Errorf("%s does not say what it is about", name)
		}
		for line := range strings.Lines(list) {
			if test := strings.TrimSpace(line); test != "" {
				tests[test] = append(tests[test], name)
			}
		}
	}
	return tests, scripts
}

// rows returns the tables of the README: what covers each test, by kind and name.
func rows(t *testing.T, readme string) map[string]string {
	kinds := map[string]string{
		"Unit tests": "unit ", "Unit tests of util": "util ", "Integration tests": "integration ",
		"End-to-end tests": "e2e ", "Bad input and faults": "bad ",
	}
	out := map[string]string{}
	kind := ""
	for line := range strings.Lines(readme) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			kind = kinds[title]
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 2 || strings.Contains(line, "---") || cells[1] == "here |" {
			continue
		}
		name := kind + strings.TrimPrefix(cells[0], "| ")
		if _, twice := out[name]; twice || kind == "" {
			t.Errorf("%q has a second row, or stands under no known title", name)
		}
		out[name] = strings.TrimSuffix(cells[1], " |")
	}
	return out
}

// The README names every script, and only tests that exist; and it agrees with what the
// scripts say about themselves.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, scripts := covered(t)
	table := rows(t, string(text))
	for _, s := range scripts {
		if !bytes.Contains(text, []byte(s)) {
			t.Errorf("%s is not named", s)
		}
	}
	file := regexp.MustCompile(`[a-z-]+\.txtar`)
	for name, where := range table {
		named := file.FindAllString(where, -1)
		if strings.HasPrefix(name, "bad ") {
			for _, s := range named {
				if !slices.Contains(scripts, s) {
					t.Errorf("%s: there is no %s", name, s)
				}
			}
		} else if !slices.Equal(named, tests[name]) {
			t.Errorf("%s: the table says %v, the scripts say %v", name, named, tests[name])
		}
		checkTests(t, name, where)
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no row", name)
		}
	}
}

// checkTests checks that the tests in a row exist: "PACKAGE TestX, TestY, PACKAGE
// TestZ".
func checkTests(t *testing.T, name, where string) {
	dir := ""
	for _, m := range regexp.MustCompile(`\b(plan|view|engine|sim) Test|\b(Test[A-Z]\w*)`).FindAllStringSubmatchIndex(where, -1) {
		if m[2] >= 0 {
			dir = where[m[2]:m[3]]
		}
		start := m[0]
		if m[2] >= 0 {
			start = m[3] + 1
		}
		test := regexp.MustCompile(`^\w+`).FindString(where[start:])
		if !hasTest(t, dir, test) {
			t.Errorf("%s: package %q has no %s", name, dir, test)
		}
	}
	if !strings.Contains(where, "Test") && !strings.Contains(where, ".txtar") && !strings.Contains(where, "does not apply") {
		t.Errorf("%s: nothing covers it", name)
	}
}

func hasTest(t *testing.T, dir, test string) bool {
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("func "+test+"(")) {
			return true
		}
	}
	return false
}
