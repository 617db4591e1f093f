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

// pages are the pages whose commands must run as they are printed, in order, on one machine where everything
// is built. In comments, which a reader does not see, a page says what is different:
//
//	<!-- not run: WHY -->           the next block is left out
//	<!-- run first: COMMAND -->     what the reader has done before this section
//	<!-- run after each: COMMAND -->  the lines of the next block are alternatives
var pages = []string{
	"README.md", "docs/walkthrough.md", "docs/audit.md", "docs/plan.md", "docs/safe-releases.md", "docs/in-place.md", "docs/watch.md", "docs/ui.md", "docs/simulate.md", "docs/local-cluster.md",
	"docs/addons.md", "docs/agents.md",
}

// demo is what `make up` does when everything is built.
const demo = "everynode up --detach\nkubectl apply -f examples/node-audit-daemonset.yaml\nkubectl rollout status daemonset audit-agent\n"

// programs are what a block of commands begins with. Other blocks show files, or output.
var programs = []string{"everynode", "kubectl", "bin/everynode", "bin/kubectl", "export", "make"}

// TestDocs runs pages. It takes minutes, so it needs EVERYNODE_LONG.
func TestDocs(t *testing.T) {
	bin := needMachine(t)
	if os.Getenv("EVERYNODE_LONG") == "" {
		t.Skip("the commands of the docs take minutes: EVERYNODE_LONG=1")
	}
	var scripts []string
	dir := t.TempDir()
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join("..", page))
		if err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(dir, strings.TrimSuffix(filepath.Base(page), ".md")+".txtar")
		if err := os.WriteFile(script, []byte(pageScript(commandsOf(string(text)))), 0o600); err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, script)
	}
	runScripts(t, testscript.Params{Files: scripts, Setup: func(env *testscript.Env) error { return setUp(env, bin, "") }})
}

// pageScript returns a script for a page.
func pageScript(commands []string) string {
	var b strings.Builder
	b.WriteString("exec bash -euo pipefail page.sh\n-- page.sh --\n")
	b.WriteString("trap 'everynode down --purge || true' EXIT # the cluster that the page is about by then, also where a command fails\n")
	b.WriteString("for there in bin deploy docs examples; do ln -s \"$REPOSITORY/$there\" \"$there\"; done\n")
	for _, command := range commands {
		line, comment, _ := strings.Cut(command, " # ")
		line = strings.TrimRight(line, " ")
		fmt.Fprintf(&b, "echo %s\n", quoted("$ "+line))
		b.WriteString(asRun(line, strings.HasPrefix(strings.TrimSpace(comment), "fails")))
	}
	return b.String()
}

// asRun returns a line of a page as a line of a bash script. There is only one terminal, so `everynode up`
// runs in the background, and commands that follow a log or serve a page are ended.
func asRun(line string, fails bool) string {
	first, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "make up":
		return demo
	case first == "make": // everything is built
		return ""
	case fails:
		return fmt.Sprintf("if %s; then echo 'it should have failed'; exit 1; fi\n", line)
	case filepath.Base(first) == "everynode" && strings.HasPrefix(rest, "up") && !strings.Contains(rest, "--detach"):
		return line + " --detach\n"
	case strings.HasSuffix(line, " --follow"), strings.HasPrefix(rest, "ui"):
		return fmt.Sprintf("timeout 20 %s || [[ $? == 124 ]]\n", line)
	}
	return line + "\n"
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// commandsOf lists the commands of a page: lines that are indented by four spaces, in blocks that begin with
// one of programs. It removes prompts, and the lines without a prompt that follow them, which are output.
func commandsOf(page string) (commands []string) {
	var block []string
	skip, each := false, ""
	end := func() {
		if len(block) == 0 {
			return
		}
		if !skip && isCommand(block[0]) {
			for _, command := range withoutAnswers(block) {
				commands = append(commands, command)
				if each != "" {
					commands = append(commands, each)
				}
			}
		}
		block, skip, each = nil, false, ""
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		code, ok := strings.CutPrefix(line, "    ")
		if ok {
			block = append(block, code)
			continue
		}
		end()
		if word, what, ok := directive(line); !ok {
			continue
		} else if word == "not run" {
			skip = true
		} else if word == "run first" {
			commands = append(commands, what)
		} else if word == "run after each" {
			each = what
		}
	}
	end()
	return commands
}

// directive splits a comment of a page.
func directive(line string) (word, what string, ok bool) {
	line, opened := strings.CutPrefix(line, "<!-- ")
	line, closed := strings.CutSuffix(line, " -->")
	word, what, colon := strings.Cut(line, ": ")
	return word, what, opened && closed && colon
}

func isCommand(line string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(line, "$ "), " ")
	return slices.Contains(programs, first)
}

// withoutAnswers returns the commands of a block. Where some lines have a prompt, the others are output and
// are left out, as are comments and empty lines.
func withoutAnswers(block []string) (commands []string) {
	prompted := strings.HasPrefix(block[0], "$ ")
	for _, line := range block {
		command, ok := strings.CutPrefix(line, "$ ")
		if prompted && !ok || strings.TrimSpace(command) == "" || strings.HasPrefix(command, "#") {
			continue
		}
		commands = append(commands, command)
	}
	return commands
}

func TestCommandsOfAPage(t *testing.T) {
	const page = "# Title\n\n    make up\n\nText.\n\n    everynode up      # in the foreground\n    # a comment\n    everynode status\n\n" +
		"<!-- not run: it needs a machine more -->\n\n    everynode agent\n\nIt prints\n\n    NAME   READY\n\n    $ kubectl get nodes\n    NAME\n    $ kubectl get pods\n\n" +
		"    apiVersion: v1\n    kind: Pod\n\n<!-- run first: everynode down -->\n<!-- run after each: everynode down --purge -->\n\n    everynode up\n    everynode up --bare\n\n    everynode list\n"
	want := []string{"make up", "everynode up      # in the foreground", "everynode status", "kubectl get nodes", "kubectl get pods",
		"everynode down", "everynode up", "everynode down --purge", "everynode up --bare", "everynode down --purge", "everynode list"}
	if got := commandsOf(page); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	script := pageScript([]string{"make up", "make agents      # all images", "everynode up      # in the foreground", "kubectl get x   # fails: it is not there", "kubectl logs x --follow"})
	for _, line := range []string{"everynode up --detach", "kubectl apply -f examples/node-audit-daemonset.yaml",
		"if kubectl get x; then echo 'it should have failed'; exit 1; fi", "timeout 20 kubectl logs x --follow || [[ $? == 124 ]]"} {
		if !strings.Contains(script, "\n"+line+"\n") {
			t.Errorf("no line %q in %s", line, script)
		}
	}
	if strings.Contains(script, "\nmake") {
		t.Errorf("make is called in %s", script)
	}
}
