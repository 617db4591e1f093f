package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// unreleased is the heading of changes that are not in a version yet.
const unreleased = "## Unreleased"

// commit is one line of git log.
type commit struct{ hash, subject string }

// area returns what a commit is about: the first name before the colon in its subject.
// what is the rest of the subject.
func (c commit) area() (area, what string) {
	areas, what, ok := strings.Cut(c.subject, ": ")
	if !ok {
		return "other", c.subject
	}
	area, _, _ = strings.Cut(areas, ",")
	return area, what
}

// unseen reports whether users do not see changes of an area. Such areas come last.
func unseen(area string) bool {
	return slices.Contains([]string{"arch", "bench", "comments", "compat", "conformance", "e2e", "mutants", "other", "sim", "tests", "tools", "words"}, area)
}

// byArea lists commits by area.
func byArea(commits []commit) string {
	lines := map[string][]string{}
	for _, c := range commits {
		area, what := c.area()
		lines[area] = append(lines[area], fmt.Sprintf("- %s (%s)", what, c.hash))
	}
	areas := slices.SortedFunc(maps.Keys(lines), func(a, b string) int {
		if unseen(a) != unseen(b) {
			if unseen(b) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var text strings.Builder
	for _, area := range areas {
		fmt.Fprintf(&text, "\n%s\n%s\n", area, strings.Join(lines[area], "\n"))
	}
	return text.String()
}

// cutRelease gives the unreleased section of a changelog a version and a date, and
// adds an empty section above it for later changes. It returns the changelog and the
// notes of the version.
func cutRelease(changelog, version string, now time.Time) (changed, notes string, err error) {
	before, after, ok := strings.Cut(changelog, "\n"+unreleased+"\n")
	if !ok {
		return "", "", fmt.Errorf("%s has no section %q: begin one above the last version", changelogFile, unreleased)
	}
	if strings.Contains(changelog, "\n## "+version+" ") {
		return "", "", fmt.Errorf("%s has a section %s already", changelogFile, version)
	}
	notes, older, _ := strings.Cut(after, "\n## ")
	if older != "" {
		older = "\n## " + older
	}
	if notes = strings.TrimSpace(notes); notes == "" {
		return "", "", errors.New("nothing is unreleased: say first what has changed for those who use it (make release-notes shows the commits)")
	}
	head := fmt.Sprintf("%s\n%s\n\n## %s (%s)\n\n", before, unreleased, version, now.Format(time.DateOnly))
	return head + notes + "\n" + older, notes, nil
}
