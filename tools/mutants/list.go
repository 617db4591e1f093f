package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one small defect: in file, from is replaced by to.
type mutant struct {
	name string
	line int    // of the list, where it begins
	file string // path from the root of the repository, with slashes
	by   string // the test that is known to notice, which runs first; "": none is known
	from string
	to   string
}

// parse reads a list. A mutant looks like this:
//
//	== NAME
//	in FILE
//	by TEST, or TEST/SUBTEST, that noticed it the last time; without it all tests are run
//	-text in the file, which must be there exactly once; more such lines follow each other
//	+text that replaces it; without such a line it is removed
//
// Blank lines and lines that begin with # may come between mutants.
func parse(text string) (list []mutant, err error) {
	var from, to []string
	var wrong []error
	end := func() {
		if n := len(list); n > 0 {
			m := &list[n-1]
			m.from, m.to = strings.Join(from, "\n"), strings.Join(to, "\n")
			wrong = append(wrong, m.incomplete())
		}
		from, to = nil, nil
	}
	names := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		kind, rest := line, ""
		if line != "" {
			kind, rest = line[:1], line[1:]
		}
		switch {
		case line == "" || kind == "#":
		case strings.HasPrefix(line, "== "):
			end()
			name := strings.TrimPrefix(line, "== ")
			if names[name] {
				wrong = append(wrong, fmt.Errorf("line %d: a second mutant is called %q", i+1, name))
			}
			names[name] = true
			list = append(list, mutant{name: name, line: i + 1})
		case len(list) == 0:
			wrong = append(wrong, fmt.Errorf("line %d: %q stands before the first mutant", i+1, line))
		case strings.HasPrefix(line, "in "):
			list[len(list)-1].file = strings.TrimPrefix(line, "in ")
		case strings.HasPrefix(line, "by "):
			list[len(list)-1].by = strings.TrimPrefix(line, "by ")
		case kind == "-":
			from = append(from, rest)
		case kind == "+":
			to = append(to, rest)
		default:
			wrong = append(wrong, fmt.Errorf("line %d: %q is neither ==, in, by, -, + nor a comment", i+1, line))
		}
	}
	end()
	return list, errors.Join(wrong...)
}

func (m *mutant) incomplete() error {
	switch {
	case m.file == "":
		return fmt.Errorf("line %d: %q names no file", m.line, m.name)
	case m.from == "":
		return fmt.Errorf("line %d: %q does not say what it changes", m.line, m.name)
	case m.from == m.to:
		return fmt.Errorf("line %d: %q changes nothing", m.line, m.name)
	default:
		return nil
	}
}

// apply returns the file with the defect. The text must be in the file exactly once,
// otherwise it is not known what is tested.
func (m *mutant) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return "", fmt.Errorf("line %d: %q: %w", m.line, m.name, err)
	}
	if n := strings.Count(string(text), m.from); n != 1 {
		return "", fmt.Errorf("line %d: %q: its text is %d times in %s, and must be there once: "+
			"the code has changed, so change the mutant", m.line, m.name, n, m.file)
	}
	return strings.Replace(string(text), m.from, m.to, 1), nil
}

// checkAll returns an error that names the mutants that do not apply.
func checkAll(list []mutant, root string) error {
	var wrong []error
	for i := range list {
		_, err := list[i].apply(root)
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}
