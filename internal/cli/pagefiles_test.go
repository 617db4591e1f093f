package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShownFilesAreRead reads the files for up and server that the pages show, as those commands would.
func TestShownFilesAreRead(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks(string(text)) {
			switch {
			case strings.Contains(block, "\nkind: Cluster\n"):
				found["Cluster"]++
				if _, err := parseClusterFile([]byte(block)); err != nil {
					t.Errorf("%s: %v, in\n%s", page, err, block)
				}
			case strings.Contains(block, "\nkind: "+serverFileKind+"\n"):
				found[serverFileKind]++
				if err := readAsServer(t, block); err != nil {
					t.Errorf("%s: %v, in\n%s", page, err, block)
				}
			}
		}
	}
	if found["Cluster"] == 0 || found[serverFileKind] == 0 {
		t.Errorf("found only %v: the pages show both kinds", found)
	}
}

func readAsServer(t *testing.T, text string) error {
	file := filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server, _, err := Root().Find([]string{"server"})
	if err != nil {
		t.Fatal(err)
	}
	return loadServerFile(file, server.Flags())
}

// blocks returns the indented and fenced blocks of a page.
func blocks(page string) (all []string) {
	fenced, block := false, ""
	for line := range strings.Lines(page) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			block += line
			continue
		case indented:
			block += code
			continue
		}
		all, block = append(all, block), ""
	}
	return append(all, block)
}
