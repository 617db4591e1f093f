package everynode_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A phrase is English that a native reader stumbles over, and what to write instead.
type phrase struct {
	text    *regexp.Regexp
	instead string
	allowed []string // what looks like it, and is good English
}

// phrases are looked for in pages, and in the comments and texts of Go files. The list has what was found
// in this repository more than once. Add to it what a review finds.
var phrases = []phrase{
	{
		text:    regexp.MustCompile(`\b\w+ (?:is|are|was|were) no \w+(?: than)?`),
		instead: `"is not a ..."`,
		allowed: []string{`^[Tt]here `, ` no longer( than)?$`, ` no need`, ` no (more|less|later|earlier|better|worse) than$`},
	},
	{text: regexp.MustCompile(`\bfor ever\b`), instead: `"forever"`},
	{text: regexp.MustCompile(`\bwho does so\b`), instead: "who that is"},
	{text: regexp.MustCompile(`\b(?:exists?|is there|are there) no more\b(?: \w+)?`), instead: `"no longer exists"`, allowed: []string{` no more \w+$`}},
	{text: regexp.MustCompile(`\bbelongs? into\b`), instead: `"belongs in"`},
	{text: regexp.MustCompile(`\bgo(?:es)? no further\b`), instead: `"stops"`},
	{text: regexp.MustCompile(`\bt(?:akes?|aken|ook) notice of\b`), instead: `"notices" or "observes"`},
	{text: regexp.MustCompile(`\b(?:comes?|came) to (?:nothing|naught)\b`), instead: `"fails"`},
	{text: regexp.MustCompile(`\bfor want of\b`), instead: `"because ... is missing"`},
	{text: regexp.MustCompile(`\bto be had\b`), instead: `"available"`},
	{text: regexp.MustCompile(`\b(?:[Hh]ence|[Tt]hereby|[Tt]hereof|[Tt]hus|[Hh]enceforth|[Ll]est)\b`), instead: `"so", or a sentence of its own`},
	{text: regexp.MustCompile(`\bless than nothing\b`), instead: `"negative"`},
	{text: regexp.MustCompile(`\b[Tt]he fact that\b|\b[Ii]n order to\b|\b[Ii]t (?:is possible|should be noted) that\b`), instead: "the sentence without it"},
	{text: regexp.MustCompile(`\b(?:[Oo]bviously|[Bb]asically|[Oo]f course|[Pp]lease)\b`), instead: "the sentence without it"},
}

// checkPhrases finds the phrases in a text. at names the place of a byte of it. A phrase may go on in the next line.
func checkPhrases(text string, at func(offset int) string) (wrong []string) {
	for _, p := range phrases {
		for _, found := range p.text.FindAllStringIndex(text, -1) {
			match := text[found[0]:found[1]]
			if !slices.ContainsFunc(p.allowed, func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(match) }) {
				wrong = append(wrong, fmt.Sprintf("%s: %q: write %s", at(found[0]), match, p.instead))
			}
		}
	}
	return wrong
}

// checkPage looks at a page. Code in it is no prose.
func checkPage(name, text string) []string {
	text = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]+`").ReplaceAllStringFunc(text, func(code string) string {
		return regexp.MustCompile(`[^\n]`).ReplaceAllString(code, "~")
	})
	return checkPhrases(strings.ReplaceAll(text, "\n", " "), func(offset int) string {
		return fmt.Sprintf("%s:%d", name, 1+strings.Count(text[:offset], "\n"))
	})
}

// checkProse looks at the comments and texts of a Go file.
func checkProse(s *source) (wrong []string) {
	check := func(node ast.Node, text string) {
		wrong = append(wrong, checkPhrases(text, func(int) string { return s.at(node) })...)
	}
	for _, group := range s.file.Comments {
		check(group, strings.ReplaceAll(group.Text(), "\n", " "))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if text, is := n.(*ast.BasicLit); is && text.Kind == token.STRING {
			check(text, text.Value)
		}
		return true
	})
	return wrong
}

var saysThat = regexp.MustCompile(`^\w+ (?:says|tells) (?:that|whether) `)

// checkDoc finds comments of predicates that do not begin as those of Go's own do.
func checkDoc(s *source) (wrong []string) {
	for _, declaration := range s.file.Decls {
		function, is := declaration.(*ast.FuncDecl)
		if !is || function.Type.Results == nil || len(function.Type.Results.List) != 1 {
			continue
		}
		result, _ := function.Type.Results.List[0].Type.(*ast.Ident)
		if result != nil && result.Name == "bool" && saysThat.MatchString(function.Doc.Text()) {
			wrong = append(wrong, fmt.Sprintf("%s: write %q", s.at(function), function.Name.Name+" reports whether ..."))
		}
	}
	return wrong
}

// logMethods are the functions that log a message and then keys with their values; true for those of klog that
// Kubernetes' own style is kept with.
var logMethods = map[string]bool{"Debug": false, "Info": false, "Warn": false, "Error": false, "InfoS": true, "ErrorS": true}

var (
	capital = regexp.MustCompile(`^"[A-Z][a-z]* `)
	small   = regexp.MustCompile(`^"[a-z]+ `) // names of programs have a dash
)

// checkLogs finds log messages that begin otherwise than the others, and errors under another key than "err", as klog has it.
func checkLogs(s *source) (wrong []string) {
	if s.test() {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		method, is := call.Fun.(*ast.SelectorExpr)
		if !is {
			return true
		}
		capitals, logs := logMethods[method.Sel.Name]
		if from, is := method.X.(*ast.Ident); !logs || is && from.Name == "http" {
			return true
		}
		message := true
		for i, argument := range call.Args {
			text, is := argument.(*ast.BasicLit)
			if !is || text.Kind != token.STRING {
				continue
			}
			if message && (capitals && small.MatchString(text.Value) || !capitals && capital.MatchString(text.Value)) {
				wrong = append(wrong, fmt.Sprintf("%s: %s: messages of klog.InfoS and ErrorS begin with a capital, others do not", s.at(call), text.Value))
			}
			if !message && text.Value == `"error"` && i+1 < len(call.Args) {
				wrong = append(wrong, s.at(call)+`: the key of an error is "err"`)
			}
			message = false
		}
		return true
	})
	return wrong
}

func TestWords(t *testing.T) {
	tree(t, func(name string, text []byte) {
		switch {
		case name == "words_test.go": // it quotes them
		case strings.HasSuffix(name, ".md"):
			report(t, checkPage(name, string(text)))
		case strings.HasSuffix(name, ".go"):
			s, err := parse(name, text)
			if err != nil {
				t.Error(err)
				return
			}
			report(t, slices.Concat(checkProse(s), checkDoc(s), checkLogs(s)))
		}
	})
}

func TestWordsFind(t *testing.T) {
	for text, want := range map[string]string{
		"It is no node.":                                `"It is no node": write`,
		"What they send\nare no objects.":               "a.md:1",
		"One.\n\nIt waits for ever.":                    "a.md:3",
		"The file exists no more.":                      "no longer exists",
		"It is there no more.":                          "no longer exists",
		"The key belongs\ninto a file.":                 "belongs in",
		"The update goes no further.":                   "stops",
		"It has taken notice of the template.":          "observes",
		"The pod comes to nothing.":                     "fails",
		"It waits for want of memory.":                  "is missing",
		"No image is to be had.":                        "available",
		"It enters it, hence a thread.":                 "so",
		"Leave less than nothing.":                      "negative",
		"Do it in order to see.":                        "without it",
		"Of course it works.":                           "without it",
		"Whoever is missing, the log says who does so.": "who that is",

		"There is no node.": "", "There\nare no nodes.": "", "It is no longer ready.": "", "It is no later than that.": "", "It is no more than one.": "",
		"There are no more nodes: are there no more of them?": "", "It runs `is no node` here.": "", "```\nit is no node\n```": "", "There is no need to.": "",
	} {
		if got := strings.Join(checkPage("a.md", text), "; "); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: found %q, want %q", text, got, want)
		}
	}
	for code, want := range map[string]string{
		"// f waits\n// for ever.\nfunc f() {}":                              "a.go:3",
		"var x = errors.New(`it is no node`)":                                "is not a",
		"// f says whether x is y.\nfunc f() bool { return true }":           "f reports whether",
		"// f tells that x is y.\nfunc (t) f(x int) bool { return true }":    "f reports whether",
		"// f reports whether x is y.\nfunc f() bool { return true }":        "",
		"// f says whether x is y.\nfunc f() (string, bool) { return 1 }":    "",
		"func f() { log.Warn(\"it failed\", \"error\", err) }":               `is "err"`,
		"func f() { log.Warn(\"it failed\", \"err\", err) }":                 "",
		"func f() { log.Warn(\"It has failed\", \"err\", err) }":             "others do not",
		"func f() { klog.ErrorS(err, \"it has failed\") }":                   "begin with a capital",
		"func f() { klog.ErrorS(err, \"It has failed\", \"error\") }":        "",
		"func f() { log.Info(\"DaemonSet engine started\") }":                "",
		"// f says that x is y, in a word.\nfunc f() string { return \"\" }": "",
	} {
		s, err := parse("internal/plan/a.go", []byte("package a\n\n"+code))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(slices.Concat(checkProse(s), checkDoc(s), checkLogs(s)), "; ")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: found %q, want %q", code, got, want)
		}
	}
}
