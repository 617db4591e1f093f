package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const emptyChangelog = "# Changes\n\n## Unreleased\n"

// workTree returns a repository with the files that name a version, and one commit.
func workTree(t *testing.T, version string) repository {
	t.Helper()
	r := repository{t.TempDir()}
	for _, args := range [][]string{
		{"init", "-q"}, {"config", "user.name", "Tester"}, {"config", "user.email", "tester@example.com"},
		{"config", "commit.gpgsign", "false"}, {"config", "tag.gpgsign", "false"},
	} {
		must(t, r, args...)
	}
	for name, text := range map[string]string{
		changelogFile: emptyChangelog,
		"deploy/helm/everynode-controller/Chart.yaml": "version: " + version + "\nappVersion: " + version + " # the tag\n",
		"deploy/kustomization.yaml":                   "  newTag: " + version + "\n",
		"deploy/static-pod/everynode-controller.yaml": "image: everynode.local/everynode-controller:" + version + "\n",
		"docs/install.md":                             "push REGISTRY/everynode-controller:" + version + "\n",
	} {
		write(t, r, name, text)
	}
	commitAll(t, r, "engine: it works")
	return r
}

func must(t *testing.T, r repository, args ...string) string {
	t.Helper()
	out, err := r.git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, r repository, name, text string) {
	t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func commitAll(t *testing.T, r repository, subject string) {
	t.Helper()
	must(t, r, "add", "-A")
	must(t, r, "commit", "-q", "--allow-empty", "-m", subject)
}

func today() time.Time { return time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC) }

func TestMain(m *testing.M) {
	if _, err := exec.LookPath("git"); err != nil {
		println("these tests need git")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestShow(t *testing.T) {
	r := workTree(t, "0.1.0")
	commitAll(t, r, "e2e: a script")
	var all bytes.Buffer
	if err := run(t.Context(), r, nil, today(), &all); err != nil {
		t.Fatal(err)
	}
	if got := all.String(); !strings.HasPrefix(got, "Commits since the beginning: there is no tag\n\nengine\n- it works (") {
		t.Errorf("without a tag: %s", got)
	}
	must(t, r, "tag", "v0.1.0")
	must(t, r, "tag", "not-a-version")
	commitAll(t, r, "tests: more")
	commitAll(t, r, "engine, view: two things")
	commitAll(t, r, "up: faster")
	commitAll(t, r, "a subject without a name")
	all.Reset()
	if err := run(t.Context(), r, nil, today(), &all); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(all.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "What users") {
			kept = append(kept, strings.TrimSpace(strings.Split(line, " (")[0]))
		}
	}
	want := "Commits since v0.1.0|engine|- two things|up|- faster|other|- a subject without a name|tests|- more"
	if got := strings.Join(kept, "|"); got != want {
		t.Errorf("since the tag:\n%s\nwant\n%s", got, want)
	}
}

func TestRelease(t *testing.T) {
	r := workTree(t, "0.2.0")
	must(t, r, "tag", "v0.1.0")
	write(t, r, changelogFile, "# Changes\n\n## Unreleased\n\n- Agents start sooner.\n\n## v0.1.0 (2026-11-01)\n\n- The first.\n")
	commitAll(t, r, "docs: changes")
	var out bytes.Buffer
	if err := run(t.Context(), r, []string{"v0.2.0"}, today(), &out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(r.dir, changelogFile))
	if err != nil {
		t.Fatal(err)
	}
	want := "# Changes\n\n## Unreleased\n\n## v0.2.0 (2026-11-27)\n\n- Agents start sooner.\n\n## v0.1.0 (2026-11-01)\n\n- The first.\n"
	if string(got) != want {
		t.Errorf("the changelog:\n%s\nwant\n%s", got, want)
	}
	if tags := must(t, r, "tag"); tags != "v0.1.0" {
		t.Errorf("tags: %s; it is for people to tag", tags)
	}
	if !strings.Contains(out.String(), "git tag -a v0.2.0") {
		t.Errorf("it does not say how to go on: %s", out.String())
	}
}

// It reports what is wrong, and changes nothing.
func TestReleaseRefuses(t *testing.T) {
	filled := emptyChangelog + "\n- It works.\n"
	for _, tc := range []struct{ version, names, changelog, dirty, want string }{
		{"0.2.0", "0.2.0", filled, "", "not a version"},
		{"v0.2", "0.2.0", filled, "", "not a version"},
		{"v0.1.0", "0.1.0", filled, "", "does not come after v0.1.0"},
		{"v0.2.0-rc.1", "0.1.0", filled, "", "change it to 0.2.0-rc.1"},
		{"v0.2.0", "0.2.0", emptyChangelog, "", "nothing is unreleased"},
		{"v0.2.0", "0.2.0", emptyChangelog + "\n## v0.1.0 (2026-11-01)\n\n- The first.\n", "", "nothing is unreleased"},
		{"v0.2.0", "0.2.0", "# Changes\n", "", "no section"},
		{"v0.2.0", "0.2.0", filled + "\n## v0.2.0 (2026-11-01)\n\n- It.\n", "", "a section v0.2.0 already"},
		{"v0.2.0", "0.2.0", filled, "docs/install.md", "not committed"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			r := workTree(t, tc.names)
			must(t, r, "tag", "v0.1.0")
			write(t, r, changelogFile, tc.changelog)
			commitAll(t, r, "docs: changes")
			if tc.dirty != "" {
				write(t, r, tc.dirty, "everynode-controller:0.2.0 and more\n")
			}
			err := run(t.Context(), r, []string{tc.version}, today(), &bytes.Buffer{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want %q in it", err, tc.want)
			}
			if got, _ := os.ReadFile(filepath.Join(r.dir, changelogFile)); string(got) != tc.changelog {
				t.Errorf("the changelog was changed:\n%s", got)
			}
		})
	}
}

// The files that name a version exist in this repository.
func TestNamedFilesExist(t *testing.T) {
	text, err := os.ReadFile("../../deploy/helm/everynode-controller/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	version := named()["deploy/helm/everynode-controller/Chart.yaml"].FindStringSubmatch(string(text))[1]
	if err := (repository{"../.."}).checkNamed("v" + version); err != nil {
		t.Error(err)
	}
}
