package cli

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"everynode/internal/cli/plugin"
)

var (
	// quotedCommand matches a command inside a sentence, on a page or in the program's output.
	quotedCommand = regexp.MustCompile("`((?:kubectl )?everynode(?:-ctl)? [^`]+)`")
	// lineCommand matches a command on a line of its own: in a block of a page, in an example of --help, or in a script.
	lineCommand = regexp.MustCompile(`^(?:\$ )?(?:sudo )?(?:[A-Z_]+=\S+ )?((?:kubectl )?(?:bin/)?everynode(?:-ctl)? [a-z-].*)$`)
	// endOfCommand matches what ends a command for a shell, or for a reader.
	endOfCommand = regexp.MustCompile(`\s+#|\s*(?:\||;|&&|>|<|\)$)|[,:.]?$`)
)

// TestShownCommandsExist checks that each command of everynode that a page, an example or a message shows exists, with
// its flags. It does not run them: TestDocs in e2e does that with the pages for which one machine is enough.
func TestShownCommandsExist(t *testing.T) {
	shown := shownCommands(t, filepath.Join("..", ".."))
	if len(shown) < 200 {
		t.Errorf("only %d commands were found: the pages show more", len(shown))
	}
	for _, s := range shown {
		if strings.HasPrefix(s.at, "internal/cli/plugin/") { // its help shows the plugin's commands
			s.text = "kubectl " + s.text
		}
		if err := checkShown(s.text); err != nil {
			t.Errorf("%s: %s: %v", s.at, s.text, err)
		}
	}
}

func TestCheckShown(t *testing.T) {
	for text, want := range map[string]string{
		"everynode up --detach":                     "",
		"everynode node add node-4 --node-cpu=1":    "",
		"kubectl everynode rollout abort ds/agent":  "",
		"everynode kubectl get pods --what-is-this": "", // kubectl's own
		"everynode node [add|remove] NAME":          "",
		"everynode upp":                             "no command everynode upp",
		"everynode node ad node-4":                  "no command everynode node ad",
		"everynode up --detached":                   "no flag --detached",
		"everynode up -d":                           "no flag -d",
		"everynode rollout abort ds/a -n x --wave=": "no flag --wave",
	} {
		err := checkShown(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// checkShown returns an error if the command in the text, or one of its flags, does not exist.
func checkShown(text string) error {
	before, rest, _ := strings.Cut(text, "everynode")
	rest, alone := strings.CutPrefix(rest, "-ctl")
	program := Root()
	switch {
	case alone:
		program = plugin.AloneRoot()
	case strings.HasPrefix(before, "kubectl"):
		program = plugin.Root()
	}
	program.InitDefaultCompletionCmd() // otherwise only a running program has it
	command, words, err := program.Find(strings.Fields(rest))
	if err != nil || command.DisableFlagParsing { // words after `kubectl` are kubectl's
		return err
	}
	if len(words) > 0 && command.HasSubCommands() && isSubcommand(words[0]) {
		return fmt.Errorf("there is no command %s %s", command.CommandPath(), words[0])
	}
	for _, word := range words {
		name, _, _ := strings.Cut(strings.Trim(word, "[]()'\""), "=")
		if name == "--" || strings.HasPrefix(name, "%") { // a format string: the rest may belong to another command
			break
		}
		if isFlag(name) && flagOf(command, name) == nil {
			return fmt.Errorf("%s has no flag %s", command.CommandPath(), name)
		}
	}
	return nil
}

// isSubcommand reports whether a word can only be the name of a command: other words are in capitals, or are choices.
func isSubcommand(word string) bool {
	return regexp.MustCompile(`^[a-z-]+$`).MatchString(word) && word[0] != '-'
}

func isFlag(word string) bool {
	return regexp.MustCompile(`^(--[a-z][a-z0-9-]*|-[a-zA-Z])$`).MatchString(word)
}

func flagOf(command *cobra.Command, word string) *pflag.Flag {
	command.InitDefaultHelpFlag()
	if name, long := strings.CutPrefix(word, "--"); long {
		return command.Flag(name)
	}
	if f := command.Flags().ShorthandLookup(word[1:]); f != nil {
		return f
	}
	return command.InheritedFlags().ShorthandLookup(word[1:])
}

// shown is a command in a file.
type shown struct{ at, text string }

func shownCommands(t *testing.T, root string) (all []shown) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "node_modules"}, name) {
				return filepath.SkipDir
			}
			return err
		}
		switch filepath.Ext(path) {
		case ".md":
			all = append(all, shownInPage(t, path, name)...)
		case ".go":
			if !strings.HasSuffix(path, "_test.go") {
				all = append(all, shownInProgram(t, path, name)...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func shownInPage(t *testing.T, path, name string) (all []shown) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	for i, line := range strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		at := name + ":" + strconv.Itoa(i+1) // too small after continued lines
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if code, is := strings.CutPrefix(line, "    "); is || fenced {
			all = append(all, shownInLine(at, code)...)
			continue
		}
		all = append(all, shownInText(at, line)...)
	}
	return all
}

// shownInProgram returns the commands in the string literals of a Go file.
func shownInProgram(t *testing.T, path, name string) (all []shown) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, is := n.(*ast.BasicLit)
		if !is || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		at := name + ":" + strconv.Itoa(files.Position(literal.Pos()).Line)
		all = append(all, shownInText(at, text)...)
		if literal.Value[0] == '`' {
			for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
				if code, indented := strings.CutPrefix(line, "  "); indented {
					all = append(all, shownInLine(at, code)...)
				}
			}
		}
		return true
	})
	return all
}

func shownInText(at, text string) (all []shown) {
	for _, match := range quotedCommand.FindAllStringSubmatch(text, -1) {
		all = append(all, shown{at, match[1]})
	}
	return all
}

func shownInLine(at, line string) []shown {
	match := lineCommand.FindStringSubmatch(strings.TrimSpace(line))
	if match == nil {
		return nil
	}
	return []shown{{at, match[1][:endOfCommand.FindStringIndex(match[1])[0]]}}
}
