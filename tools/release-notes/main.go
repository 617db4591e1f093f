// Command release-notes helps to write CHANGELOG.md.
//
//	release-notes [-C DIR]            lists the commits since the last tag, by area
//	release-notes [-C DIR] VERSION    turns the section Unreleased in CHANGELOG.md into VERSION
//
// The changelog is for users of everynode, and people write it: this command only shows them the commits, and makes
// sure that every file names the same version before somebody tags it. It does not tag anything itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

const changelogFile = "CHANGELOG.md"

func main() {
	dir := flag.String("C", ".", "the `folder` of the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, repository{*dir}, flag.Args(), time.Now().UTC(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release-notes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, r repository, args []string, now time.Time, out io.Writer) error {
	switch len(args) {
	case 0:
		return show(ctx, r, out)
	case 1:
		return release(ctx, r, args[0], now, out)
	}
	return fmt.Errorf("%d arguments: give one version such as v0.2.0, or none", len(args))
}

// show prints the commits since the last tag.
func show(ctx context.Context, r repository, out io.Writer) error {
	last, err := r.lastTag(ctx)
	if err != nil {
		return err
	}
	commits, err := r.commits(ctx, last)
	if err != nil {
		return err
	}
	if last == "" {
		last = "the beginning: there is no tag"
	}
	fmt.Fprintf(out, "Commits since %s\n%s\n", last, byArea(commits))
	fmt.Fprintf(out, "What users should know of it belongs under %q in %s. Then: make release-notes VERSION=v...\n", unreleased, changelogFile)
	return nil
}

// release gives the unreleased section a version, and prints what to do next.
func release(ctx context.Context, r repository, version string, now time.Time, out io.Writer) error {
	last, err := r.lastTag(ctx)
	if err != nil {
		return err
	}
	if err := checkVersion(version, last); err != nil {
		return err
	}
	if err := r.checkNamed(version); err != nil {
		return err
	}
	if changed, err := r.git(ctx, "status", "--porcelain", "--untracked-files=no"); err != nil {
		return err
	} else if changed != "" {
		return fmt.Errorf("there are changes that are not committed, and a tag would leave them out: commit them first\n%s", changed)
	}
	file := filepath.Join(r.dir, changelogFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the changelog: %w", err)
	}
	changed, notes, err := cutRelease(string(text), version, now)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		return fmt.Errorf("write the changelog: %w", err)
	}
	fmt.Fprintf(out, "%s has a section %s now:\n\n%s\n\nNext:\n", changelogFile, version, notes)
	fmt.Fprintf(out, "  make test && EVERYNODE_RELEASE=1 make vulnerabilities\n  git commit -m 'release %[1]s' %[2]s\n  git tag -a %[1]s -m %[1]s\n  make image\n", version, changelogFile)
	return nil
}

// checkVersion returns what is wrong with a version after the version last, which is "" if there is none.
func checkVersion(version, last string) error {
	if !semver.IsValid(version) || semver.Canonical(version) != version {
		return fmt.Errorf("%q is not a version such as v0.2.0 or v1.0.0-rc.1", version)
	}
	if last != "" && semver.Compare(version, last) <= 0 {
		return fmt.Errorf("%s does not come after %s, which is the last tag", version, last)
	}
	return nil
}

// named returns, for each file that names the version of the engine's image, the pattern that finds it.
func named() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"deploy/helm/everynode-controller/Chart.yaml": regexp.MustCompile(`(?m)^(?:appVersion|version): (\S+)`),
		"deploy/kustomization.yaml":                   regexp.MustCompile(`(?m)^ *newTag: (\S+)`),
		"deploy/static-pod/everynode-controller.yaml": regexp.MustCompile(`everynode-controller:(\S+)`),
		"docs/install.md":                             regexp.MustCompile(`everynode-controller:(\d\S*)`),
	}
}

// checkNamed returns an error that names the files with a different version.
func (r repository) checkNamed(version string) error {
	want := strings.TrimPrefix(version, "v")
	var errs []error
	for name, pattern := range named() {
		text, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return fmt.Errorf("look which version it names: %w", err)
		}
		matches := pattern.FindAllStringSubmatch(string(text), -1)
		if len(matches) == 0 {
			errs = append(errs, fmt.Errorf("%s names no version where one is expected", name))
		}
		for _, match := range matches {
			if match[1] != want {
				errs = append(errs, fmt.Errorf("%s names version %s: change it to %s", name, match[1], want))
			}
		}
	}
	return errors.Join(errs...)
}

// repository is a git work tree.
type repository struct{ dir string }

func (r repository) git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.dir}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimRight(string(out), "\n"), nil
}

// lastTag returns the newest version among the tags of this commit and its ancestors; "" if there is none.
func (r repository) lastTag(ctx context.Context) (last string, err error) {
	tags, err := r.git(ctx, "tag", "--merged", "HEAD")
	if err != nil {
		return "", err
	}
	for _, tag := range strings.Fields(tags) {
		if semver.IsValid(tag) && (last == "" || semver.Compare(tag, last) > 0) {
			last = tag
		}
	}
	return last, nil
}

// commits returns the commits since a tag, or all if last is "": the subject and short hash of each, the oldest
// first.
func (r repository) commits(ctx context.Context, since string) (all []commit, err error) {
	what := "HEAD"
	if since != "" {
		what = since + "..HEAD"
	}
	lines, err := r.git(ctx, "log", "--no-merges", "--reverse", "--format=%h %s", what)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(lines) {
		hash, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, commit{hash, subject})
	}
	return all, nil
}
