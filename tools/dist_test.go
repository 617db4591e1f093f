// Package tools_test runs the scripts that make what there is to download, on small repositories.
package tools_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const chart = "deploy/helm/everynode-controller/"

// run runs a command of bash in a folder, and returns what it prints.
func run(t *testing.T, dir, command string) (out string, err error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", command)
	c.Dir = dir
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z")
	text, err := c.CombinedOutput()
	return string(text), err
}

func must(t *testing.T, dir, command string) string {
	t.Helper()
	out, err := run(t, dir, command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// repository makes one with a chart and the scripts, and two commits.
func repository(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string]string{
		chart + "Chart.yaml":       "name: everynode-controller\nversion: 0.1.0\n",
		chart + "templates/a.yaml": "kind: A\n",
		chart + "make":             "#!/bin/sh\n",
		"tools/krew-manifest":      "#!/bin/sh\necho \"$1\"\n", // the real one needs the archives of the plugin
	}
	for _, script := range []string{"package", "version"} {
		text, err := os.ReadFile(script) // here, so that Go's test cache sees it
		if err != nil {
			t.Fatal(err)
		}
		files["tools/"+script] = string(text)
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dir, `chmod +x tools/* '`+chart+`make' && git init -q &&
		git config user.name Tester && git config user.email tester@example.com && git config commit.gpgsign false &&
		git add -A && git commit -q -m one && git commit -q --allow-empty -m two`)
	return dir
}

// TestSameBytes: two clones of a commit give the same files, whatever the umask of those who made them, how git abbreviates there, and
// what else lies in the folders.
func TestSameBytes(t *testing.T) {
	from, made := repository(t), [2]string{}
	for i, before := range []string{"umask 022", "umask 077"} {
		dir := t.TempDir()
		must(t, dir, before+" && git clone -q '"+from+"' clone")
		if i == 1 {
			must(t, dir, "cd clone && git config core.abbrev 20 && echo mine > "+chart+"templates/mine.yaml && touch "+chart+".a.yaml.swp")
		}
		must(t, dir, before+" && clone/tools/package \"$PWD/out\" '' '' > said")
		made[i] = must(t, dir, "cd out && cat SHA256SUMS everynode.krew.yaml && tar -tvzf everynode-controller-0.1.0.tgz | cut -c 1-10,40-")
	}
	if made[0] != made[1] {
		t.Errorf("one clone gives\n%s\nand another one\n%s", made[0], made[1])
	}
	for _, want := range []string{`(?m)^-rw-r--r--.*everynode-controller/templates/a\.yaml$`, `(?m)^-rwxr-xr-x.*everynode-controller/make$`} {
		if !regexp.MustCompile(want).MatchString(made[0]) {
			t.Errorf("the chart does not have %s:\n%s", want, made[0])
		}
	}
}

// TestVersionOfPackages: it is the tag, or else it names the commit in as many digits everywhere. A clone without the whole history does
// not know its tags, so nothing is made there. A source tree without git takes the version that it is given.
func TestVersionOfPackages(t *testing.T) {
	from := repository(t)
	if version := strings.TrimSpace(must(t, from, "tools/version --package")); !regexp.MustCompile(`^v0\.0\.0-20260102030405-[0-9a-f]{12}$`).MatchString(version) {
		t.Errorf("version %q", version)
	}
	must(t, from, "git tag v1.2.3 HEAD")
	if version := must(t, from, "tools/version --package"); version != "v1.2.3\n" {
		t.Errorf("the tag gives %q", version)
	}
	dir := t.TempDir()
	must(t, dir, "git clone -q --depth 1 'file://"+from+"' clone && mkdir -p tree/tools && cp clone/tools/version tree/tools/")
	if out, err := run(t, dir, "clone/tools/version --package"); err == nil || !strings.Contains(out, "git fetch --unshallow --tags") {
		t.Errorf("in a shallow clone: %v, %s", err, out)
	}
	if version := must(t, dir, "VERSION=v1.2.3 tree/tools/version --package"); version != "v1.2.3\n" {
		t.Errorf("without git: %q", version)
	}
}
