package everynode_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// codeBlock is what is indented or fenced: what looks like a link there is text, and what looks like a heading is a comment.
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```|^    .*?$")
	// namedFile is a file of ours in a list or table: in backquotes, from the root of the repository.
	namedFile = regexp.MustCompile("`((?:internal|docs|e2e|cmd|deploy|tools)/[\\w./-]+\\.\\w+|arch_test\\.go|docs_test\\.go)`")
	notSlug   = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// slug is the anchor that a hosting site makes of a heading.
func slug(title string) string {
	return strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}

// checkLinks finds links of the page name to files and headings that do not exist. read returns a file of the
// repository; a folder is a file without text.
func checkLinks(name string, text []byte, read func(string) ([]byte, error)) (wrong []string) {
	for _, match := range markdownLink.FindAllSubmatch(codeBlock.ReplaceAll(text, nil), -1) {
		link := string(match[1])
		if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(link, "#")
		target, content := name, text
		if file != "" {
			target = path.Join(path.Dir(name), file)
			var err error
			if content, err = read(target); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: the link %s leads nowhere: %v", name, link, err))
				continue
			}
		}
		if anchor != "" && !hasHeading(content, anchor) {
			wrong = append(wrong, fmt.Sprintf("%s: the link %s leads nowhere: %s has no such heading", name, link, target))
		}
	}
	return wrong
}

func hasHeading(text []byte, anchor string) bool {
	for _, match := range heading.FindAllSubmatch(codeBlock.ReplaceAll(text, nil), -1) {
		if slug(string(match[1])) == anchor {
			return true
		}
	}
	return false
}

// checkNamedFiles finds files that a page names and that do not exist.
func checkNamedFiles(name string, text []byte, read func(string) ([]byte, error)) (wrong []string) {
	for _, match := range namedFile.FindAllSubmatch(text, -1) {
		if _, err := read(string(match[1])); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: it names a file that does not exist: %v", name, err))
		}
	}
	return wrong
}

// checkAnswers finds files in the table "Where is ..." that do not begin by saying what they are about: a comment stands
// between the name of the package and its imports.
func checkAnswers(text []byte, read func(string) ([]byte, error)) (wrong []string) {
	_, table, found := strings.Cut(string(text), "\n## Where is ...\n")
	table, _, _ = strings.Cut(table, "\n## ")
	files := namedFile.FindAllStringSubmatch(table, -1)
	if !found || len(files) == 0 {
		return []string{"ARCHITECTURE.md answers no questions: it needs a table under \"Where is ...\""}
	}
	for _, match := range files {
		code, err := read(match[1])
		if err != nil {
			continue // checkNamedFiles says so
		}
		_, afterPackage, _ := strings.Cut(string(code), "\n\n")
		if !strings.HasPrefix(afterPackage, "// ") {
			wrong = append(wrong, match[1]+": ARCHITECTURE.md sends people here, and its first lines do not answer them: begin with a comment, before the imports")
		}
	}
	return wrong
}

func readOurs(name string) ([]byte, error) {
	if info, err := os.Stat(name); err != nil || info.IsDir() {
		return nil, err
	}
	return os.ReadFile(name)
}

func TestDocs(t *testing.T) {
	pages := 0
	tree(t, func(name string, text []byte) {
		if path.Ext(name) != ".md" {
			return
		}
		pages++
		report(t, checkLinks(name, text, readOurs))
		if name == "ARCHITECTURE.md" || name == "CONTRIBUTING.md" || path.Dir(name) == "docs/design" {
			report(t, checkNamedFiles(name, text, readOurs))
		}
		if name == "ARCHITECTURE.md" {
			report(t, checkAnswers(text, readOurs))
		}
	})
	if pages < 10 {
		t.Fatalf("%d pages found: is this the root of the repository?", pages)
	}
}

// Labels, annotations and API groups are of everynode.io. Names of the former domain are only where they are understood,
// tested or explained.
func TestOneDomain(t *testing.T) {
	const formerDomain = "everynode." + "dev"
	understood := []string{
		"internal/fleet/names.go", "internal/fleet/names_test.go", "internal/cli/localcluster/muster_test.go",
		"internal/controlplane/admission.yaml", "internal/controlplane/admission/claims.go", "internal/controlplane/admission/claims_test.go",
		"internal/addons/addons.go", "internal/addons/dns.yaml", "internal/addons/ingress.yaml", "internal/addons/metrics.yaml", "internal/addons/storage.yaml",
		"docs/simulate.md", "docs/addons.md", "CHANGELOG.md",
	}
	tree(t, func(name string, text []byte) {
		if bytes.Contains(text, []byte(formerDomain)) && !slices.Contains(understood, name) {
			t.Errorf("%s: a name of %s: new names are of everynode.io", name, formerDomain)
		}
	})
}

// Each point of the review, in docs/security.md, names tests that there are, or says that there is none.
func TestReviewNamesItsTests(t *testing.T) {
	var tests bytes.Buffer
	tree(t, func(name string, text []byte) {
		if strings.HasSuffix(name, "_test.go") {
			tests.Write(text)
		}
	})
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	points := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) < 4 || !regexp.MustCompile(`^\| S[0-9]`).MatchString(cells[0]) {
			continue
		}
		points++
		named := strings.TrimSuffix(cells[len(cells)-1], " |")
		if named == "none" || strings.HasPrefix(named, "none: ") {
			continue
		}
		for name := range strings.SplitSeq(named, ", ") {
			name = strings.Trim(name, "`")
			_, script := os.Stat("e2e/testdata/" + name)
			if !strings.Contains(tests.String(), "func "+name+"(") && (script != nil || !strings.HasSuffix(name, ".txtar")) {
				t.Errorf("%s names %q, and there is no such test", cells[0], name)
			}
		}
	}
	if points != 33 {
		t.Errorf("docs/security.md has %d points of the review", points)
	}
}

// Each page of docs/design is in its index, and has the five headings.
func TestDesignPages(t *testing.T) {
	index, err := os.ReadFile("docs/design/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadDir("docs/design")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := page.Name()
		if name == "README.md" {
			continue
		}
		if !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("docs/design/README.md does not link %s", name)
		}
		text, err := os.ReadFile(path.Join("docs/design", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, title := range []string{"Context", "Decision", "What it costs", "Tried or refused", "In the code"} {
			if !hasHeading(text, slug(title)) {
				t.Errorf("docs/design/%s has no section %q", name, title)
			}
		}
	}
}

func TestDocRulesFind(t *testing.T) {
	read := func(name string) ([]byte, error) {
		text, ok := map[string]string{
			"docs/there.md":        "# There\n\n## Who binds, and why?\n\n    # Not a heading\n",
			"docs":                 "",
			"internal/good/it.go":  "package good\n\n// It does it.\n\nimport \"fmt\"\n",
			"internal/silent/a.go": "package silent\n\nimport \"fmt\"\n\n// A is late.\n",
		}[name]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}
	for _, tc := range []struct{ rule, text, want string }{
		{"links", "[a](there.md) [b](there.md#who-binds-and-why) [c](https://example.com/x) [d](#here)\n# Here\n", ""},
		{"links", "[a](gone.md)", "gone.md leads nowhere"},
		{"links", "[a](there.md#gone)", "docs/there.md has no such heading"},
		{"links", "[a](there.md#not-a-heading)", "has no such heading"},
		{"links", "[a](#gone)", "has no such heading"},
		{"links", "    x[a](gone.md)\n```\n[b](gone.md)\n```\n", ""},
		{"files", "- `internal/good/it.go`: it", ""},
		{"files", "- `internal/good/gone.go`: it", "names a file that does not exist"},
		{"answers", "# A\n\n## Where is ...\n\n| `internal/good/it.go` |\n\n## Next\n\n`internal/silent/a.go`\n", ""},
		{"answers", "# A\n\n## Where is ...\n\n| `internal/silent/a.go` |\n", "internal/silent/a.go: ARCHITECTURE.md sends people here"},
		{"answers", "# A\n", "answers no questions"},
	} {
		var found []string
		switch tc.rule {
		case "links":
			found = checkLinks("docs/page.md", []byte(tc.text), read)
		case "files":
			found = checkNamedFiles("docs/page.md", []byte(tc.text), read)
		case "answers":
			found = checkAnswers([]byte(tc.text), read)
		}
		if got := strings.Join(found, "\n"); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s of %q: %q; want %q in it", tc.rule, tc.text, got, tc.want)
		}
	}
}
