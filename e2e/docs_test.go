package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// pages are the pages whose commands must run as they are printed, in order, on one
// machine; before is what the page takes as done.
var pages = []struct{ file, before string }{
	{"README.md", demo},
	{"docs/walkthrough.md", demo},
	{"docs/simulate.md", ""},
	{"docs/local-cluster.md", ""},
}

// demo is what `make up` does when all is built.
const demo = "everynode up --detach\nkubectl apply -f examples/node-audit-daemonset.yaml\nkubectl rollout status daemonset audit-agent\n"

// programs are those by which a block of commands is known: others show files, or
// what is printed.
var programs = []string{"everynode", "kubectl", "bin/everynode", "bin/kubectl", "export"}

// TestDocs runs pages. It takes minutes, so it needs EVERYNODE_LONG. A block below
// a comment `<!-- not run: WHY -->` is left out.
func TestDocs(t *testing.T) {
	bin := needMachine(t)
	if os.Getenv("EVERYNODE_LONG") == "" {
		t.Skip("the commands of the docs take minutes: EVERYNODE_LONG=1")
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join("..", page.file))
		if err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(t.TempDir(), strings.NewReplacer("/", "-", ".md", "").Replace(page.file)+".txtar")
		if err := os.WriteFile(script, []byte(pageScript(page.before, commandsOf(string(text)))), 0o600); err != nil {
			t.Fatal(err)
		}
		runScripts(t, testscript.Params{Files: []string{script}, Setup: func(env *testscript.Env) error { return setUp(env, bin, "") }})
	}
}

// pageScript is a script for a page. A command whose comment begins with "fails"
// must fail; `everynode up` goes to the background, for there is but one terminal.
func pageScript(before string, commands []string) string {
	var b strings.Builder
	b.WriteString("exec bash -euo pipefail page.sh\n-- page.sh --\n")
	b.WriteString("for there in bin deploy docs examples; do ln -s \"$REPOSITORY/$there\" \"$there\"; done\n" + before)
	for _, command := range commands {
		line, comment, _ := strings.Cut(command, " # ")
		if first, rest, _ := strings.Cut(strings.TrimSpace(line), " "); filepath.Base(first) == "everynode" && strings.HasPrefix(rest, "up") && !strings.Contains(rest, "--detach") {
			line = strings.TrimRight(line, " ") + " --detach"
		}
		fmt.Fprintf(&b, "echo %s\n", quoted("$ "+line))
		if strings.HasPrefix(strings.TrimSpace(comment), "fails") {
			fmt.Fprintf(&b, "if %s; then echo 'it should have failed'; exit 1; fi\n", line)
		} else {
			fmt.Fprintln(&b, line)
		}
	}
	b.WriteString("everynode down --purge || true # where the page has done so\n")
	return b.String()
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// commandsOf lists the commands of a page: lines that are indented by four spaces,
// in blocks that begin with one. A prompt is left out, and so is what follows it
// without one.
func commandsOf(page string) (commands []string) {
	var block []string
	skip := false
	end := func() {
		if len(block) > 0 {
			if !skip && isCommand(block[0]) {
				commands = append(commands, withoutAnswers(block)...)
			}
			block, skip = nil, false
		}
	}
	for line := range strings.Lines(page) {
		code, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		switch {
		case ok:
			block = append(block, code)
		case strings.HasPrefix(line, "<!-- not run: "):
			end()
			skip = true
		case strings.TrimSpace(line) != "":
			end()
			skip = false
		default:
			end()
		}
	}
	end()
	return commands
}

func isCommand(line string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(line, "$ "), " ")
	return slices.Contains(programs, first)
}

// withoutAnswers returns the commands of a block. Where some lines have a prompt, the
// others are output and are left out, as are comments and empty lines.
func withoutAnswers(block []string) (commands []string) {
	prompted := strings.HasPrefix(block[0], "$ ")
	for _, line := range block {
		command, ok := strings.CutPrefix(line, "$ ")
		if prompted && !ok || strings.TrimSpace(command) == "" || strings.HasPrefix(command, "#") || strings.HasPrefix(command, "make ") {
			continue
		}
		commands = append(commands, command)
	}
	return commands
}

func TestCommandsOfAPage(t *testing.T) {
	const page = "# Title\n\n    make up\n\nText.\n\n    everynode up      # in the foreground\n    # a comment\n    everynode status\n\n" +
		"<!-- not run: it needs a machine more -->\n\n    everynode agent\n\nIt prints\n\n    NAME   READY\n\n    $ kubectl get nodes\n    NAME\n    $ kubectl get pods\n\n" +
		"    apiVersion: v1\n    kind: Pod\n"
	want := []string{"everynode up      # in the foreground", "everynode status", "kubectl get nodes", "kubectl get pods"}
	if got := commandsOf(page); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := pageScript("", []string{"everynode up      # in the foreground", "kubectl get x   # fails: it is not there"}); !strings.Contains(got, "\neverynode up --detach\n") ||
		!strings.Contains(got, "\nif kubectl get x  ; then echo") {
		t.Errorf("got %s", got)
	}
}
