package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// pass is one way to run a package's tests. If nothing fails in the quick pass, the
// thorough pass decides.
type pass struct {
	name     string
	upstream bool // with the tests that link Kubernetes' own code
	checks   int  // for each property
}

func passes() []pass {
	return []pass{{name: "quick", checks: 100}, {name: "thorough", upstream: true, checks: 2000}}
}

// bench is where the tests run.
type bench struct {
	root string // of the repository
	temp string
}

// outcome is the result for a mutant, or for the code without a defect.
type outcome struct {
	failed []string // the tests that failed; empty: all passed
	pass   string   // the pass in which they failed
}

// test runs the passes over the package of file, until a test fails. text replaces
// the file's content; if it is "", the file stays as it is. first is the test to run
// before all others, if any. job is a different number for each call that runs at
// the same time.
func (b *bench) test(ctx context.Context, job int, file, text, first string) (outcome, error) {
	dir := filepath.Join(b.temp, strconv.Itoa(job))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	for _, p := range passes() {
		failed, err := b.run(ctx, dir, file, text, first, p)
		if err != nil || len(failed) > 0 {
			return outcome{failed: failed, pass: p.name}, err
		}
	}
	return outcome{}, nil
}

// run builds the tests and runs them: first alone, and all of them if that one does
// not fail. It is an error if they do not build: a defect that the compiler finds
// says nothing about the tests.
func (b *bench) run(ctx context.Context, dir, file, text, first string, p pass) ([]string, error) {
	overlay, err := b.overlay(dir, file, text, p)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "package.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-w", "-overlay", overlay, "-o", binary, "./"+path.Dir(file))
	build.Dir = b.root
	build.Env = append(os.Environ(), "GOGC=400") // spend time on compiling, not on collecting garbage
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the tests do not build: %w\n%s", err, out)
	}
	flags, err := p.flags(ctx, binary)
	if err != nil {
		return nil, err
	}
	in := filepath.Join(b.root, filepath.FromSlash(path.Dir(file)))
	if first != "" {
		failed, err := failing(ctx, in, binary, append([]string{"-test.run=" + only(first)}, flags...))
		if err != nil || len(failed) > 0 {
			return failed, err
		}
	}
	return failing(ctx, in, binary, flags)
}

// only returns the pattern that matches exactly the test of that name. Each part of
// the name is a pattern of its own, as for subtests.
func only(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// failing runs the tests in a directory and returns the names of those that fail.
func failing(ctx context.Context, dir, binary string, flags []string) ([]string, error) {
	tests := exec.CommandContext(ctx, binary, flags...)
	tests.Dir = dir
	out, err := tests.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &exit) && exit.Exited():
		return failures(out), nil
	default:
		return nil, fmt.Errorf("run the tests: %w\n%s", err, out)
	}
}

// flags returns the flags of the tests, including those of properties if there are
// any. The seed is always the same, since the same list must give the same result.
func (p pass) flags(ctx context.Context, binary string) ([]string, error) {
	usage, err := exec.CommandContext(ctx, binary, "-help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ask the tests for their flags: %w\n%s", err, usage)
	}
	flags := []string{"-test.timeout=5m"}
	if bytes.Contains(usage, []byte("-rapid.seed")) {
		flags = append(flags, "-rapid.seed=1", "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.checks="+strconv.Itoa(p.checks))
	} else {
		flags = append(flags, "-test.failfast") // such tests take longer, and one that notices is enough
	}
	return flags, nil
}

// overlay writes the file that tells Go which files to replace.
func (b *bench) overlay(dir, file, text string, p pass) (string, error) {
	replace := map[string]string{}
	if text != "" {
		mutated := filepath.Join(dir, "mutated.go")
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(b.root, filepath.FromSlash(file))] = mutated
	}
	if !p.upstream {
		oracles, err := filepath.Glob(filepath.Join(b.root, filepath.FromSlash(path.Dir(file)), "*_upstream_test.go"))
		if err != nil {
			return "", err
		}
		for _, o := range oracles {
			replace[o] = "" // as if it did not exist
		}
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, encoded, 0o600)
}

// failures returns the names of the tests that failed, and subtests instead of their
// parents. If the tests end without a name, because of a panic in a goroutine or the
// time limit, it returns the line that reports this.
func failures(out []byte) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`).FindAllSubmatch(out, -1) {
		name := string(m[1])
		if parent, _, ok := strings.Cut(name, "/"); ok && len(names) > 0 && names[len(names)-1] == parent {
			names = names[:len(names)-1]
		}
		names = append(names, name)
	}
	if len(names) > 0 {
		return names
	}
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
			return []string{string(bytes.TrimSpace(line))}
		}
	}
	return []string{"a test that left no name"}
}
