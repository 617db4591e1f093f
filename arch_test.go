// Package everynode_test holds the rules of the house as tests: what may import what, and what every
// package, file and function has to be like. A rule that stands in the way is changed here, with its reason.
package everynode_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "everynode"

// importRule says what the packages at path, and below, may import. Patterns are import paths; one that ends
// in "/..." stands for all below it, too, and "std" for the standard library.
type importRule struct {
	path   string
	only   []string // nothing but these; nil: anything
	never  []string // wins over only
	reason string
}

const fourParts = "engine, controlplane, node and local know nothing of each other, so that each can be tested and run alone; cli wires them"

var importRules = []importRule{
	{
		path: "internal/plan", only: []string{"std", "everynode/internal/plan/..."},
		never:  []string{"os/...", "net/...", "context", "log/...", "syscall", "math/rand/..."},
		reason: "the algorithm is a function of its input: no clock, no world, no Kubernetes",
	},
	{
		path: "internal/delivery", only: []string{"std", "everynode/internal/delivery/..."},
		never:  []string{"os/...", "net/...", "context", "log/...", "syscall", "math/rand/..."},
		reason: "what becomes of a write is a function of the answers, so that the simulator runs what the engine runs",
	},
	{
		path: "internal/rollout", only: []string{"std", "everynode/internal/plan/..."},
		never:  []string{"os/...", "net/...", "context", "log/...", "syscall", "math/rand/..."},
		reason: "how far a release may go is a function of what is seen, of what was kept and of the time that is given",
	},
	{
		path: "internal/forecast", only: []string{"std", "everynode/internal/plan/...", "everynode/internal/rollout/..."},
		never:  []string{"os/...", "net/...", "context", "log/...", "syscall", "math/rand/..."},
		reason: "what a change will do is a function of what was read; cli reads",
	},
	{
		path:   "internal/view",
		only:   []string{"std", "everynode/internal/plan/...", "everynode/internal/rollout/...", "everynode/internal/view/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/utils/dump"},
		never:  []string{"os/...", "net/http/...", "context"},
		reason: "it turns API objects into plan's values and back, and talks to nobody",
	},
	{
		path: "internal/sim",
		only: []string{
			"std", "everynode/internal/plan/...", "everynode/internal/view/...", "everynode/internal/delivery/...", "everynode/internal/rollout/...", "everynode/internal/sim/...",
			"k8s.io/api/...", "k8s.io/apimachinery/...",
		},
		never:  []string{"os/...", "net/http/..."},
		reason: "a cluster in memory: nothing in it may depend on a real one",
	},
	{
		path: "internal/engine",
		never: []string{
			"k8s.io/kubernetes/...", "go.etcd.io/...", "k8s.io/kubectl/...", "github.com/containerd/...",
			"everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/cli/...", "everynode/internal/fleet/...",
		},
		reason: "it runs alone against any API server, in a small image; " + fourParts,
	},
	{
		path:   "internal/why",
		only:   []string{"std", "everynode/internal/plan/...", "everynode/internal/rollout/...", "everynode/internal/view/...", "everynode/internal/why/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/..."},
		reason: "it asks any API server, and knows nothing of this machine",
	},
	{
		path: "internal/lookout",
		only: []string{"std", "everynode/internal/plan/...", "everynode/internal/rollout/...", "everynode/internal/view/...", "everynode/internal/why/...", "everynode/internal/fleetmap/...", "everynode/internal/fleetview/...",
			"github.com/go-logr/logr", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/klog/v2"},
		never:  []string{"os/..."},
		reason: "it follows any API server, and knows neither this machine nor a terminal",
	},
	{
		path: "internal/fleetmap", only: []string{"std"}, never: []string{"os/...", "net/...", "context", "log/...", "syscall"},
		reason: "a picture is a function of a value, so that it can be compared letter by letter",
	},
	{
		path: "internal/fleetview", only: []string{"std"}, never: []string{"os/...", "net/...", "context", "log/...", "syscall", "time"},
		reason: "what a page is told is values, and what has changed between two of them is a function",
	},
	{
		path: "internal/ui", only: []string{"std", "everynode/internal/ui", "everynode/internal/fleetview"},
		reason: "it serves a page, and knows neither clusters nor where a fleet comes from",
	},
	{path: "ui", never: []string{"everynode/internal/..."}, reason: "it makes and tries a page, which knows the server by what it sends alone"},
	{
		path:   "internal/audit",
		only:   []string{"std", "everynode/internal/plan/...", "everynode/internal/rollout/...", "everynode/internal/view/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "sigs.k8s.io/json", "sigs.k8s.io/yaml"},
		never:  []string{"os/...", "net/...", "context", "log/..."},
		reason: "what is wrong is a function of what was read, so that files are judged like clusters; cli reads",
	},
	{
		path: "internal/controlplane",
		never: []string{
			"everynode/internal/engine/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/cli/...", "everynode/internal/fleet/...",
			"everynode/internal/plan/...", "everynode/internal/view/...",
		},
		reason: fourParts,
	},
	{
		path: "internal/controlplane/pki", only: []string{"std", "everynode/internal/controlplane/private", "k8s.io/client-go/util/..."},
		reason: "certificates and keys are files of one folder, and follow from nothing else",
	},
	{
		path: "internal/controlplane/admission", never: []string{"go.etcd.io/...", "everynode/..."},
		reason: "what nodes may say of themselves is judged by what the API has, and by nothing of this server",
	},
	{
		path: "internal/registry", only: []string{"std", "everynode/internal/registry/...", "github.com/distribution/reference", "github.com/opencontainers/..."},
		reason: "it serves files, and knows neither nodes nor clusters",
	},
	{
		path: "internal/balancer",
		only: []string{"std", "everynode/internal/balancer/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/...",
			"github.com/vishvananda/netlink", "golang.org/x/sync/...", "golang.org/x/sys/..."},
		reason: "a controller like others, that could run on any cluster's machine",
	},
	{
		path:   "internal/ingress",
		only:   []string{"std", "everynode/internal/ingress/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/klog/v2", "golang.org/x/sync/..."},
		reason: "it runs in a pod, and is a controller like others",
	},
	{
		path: "internal/node",
		never: []string{
			"everynode/internal/engine/...", "everynode/internal/controlplane/...", "everynode/internal/local/...", "everynode/internal/cli/...", "everynode/internal/fleet/...",
			"everynode/internal/plan/...", "everynode/internal/view/...",
		},
		reason: fourParts,
	},
	{
		path: "internal/local",
		never: []string{
			"everynode/internal/engine/...", "everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/cli/...", "everynode/internal/fleet/...",
			"everynode/internal/plan/...", "everynode/internal/view/...",
		},
		reason: fourParts,
	},
	{
		path: "internal/atomicfile", only: []string{"std", "golang.org/x/sys/..."},
		reason: "every part writes files, and it must stay below all of them",
	},
	{
		path: "internal/datadir", only: []string{"std", "everynode/internal/atomicfile", "golang.org/x/sys/..."},
		reason: "it decides what may be deleted, and must be read in one sitting",
	},
	{
		path: "internal/s3", only: []string{"std", "everynode/internal/datadir", "github.com/minio/minio-go/...", "github.com/johannesboyne/gofakes3/..."},
		reason: "it moves files, and knows nothing of what is in them",
	},
	{path: "internal/memory", only: []string{"std"}, never: []string{"os/..."}, reason: "engine and control plane share it, and it must stay below both"},
	{path: "internal/logfile", only: []string{"std"}, reason: "it cuts files, and knows nothing of what is in them"},
	{
		path: "internal/sysctl", only: []string{"std", "golang.org/x/sys/...", "github.com/vishvananda/netlink"},
		reason: "local and node share it, and it must stay below both",
	},
	{
		path: "internal/addons", only: []string{"std"},
		reason: "it is data; other packages make the objects and record what was chosen",
	},
	{
		path: "internal/cli/console", only: []string{"std", "everynode/internal/cli/console", "github.com/spf13/...", "golang.org/x/term", "sigs.k8s.io/yaml"},
		reason: "it is what all our command lines share, and knows no command",
	},
	{path: "internal/cli/localcluster", never: []string{"github.com/spf13/..."}, reason: "it knows the cluster of this machine, and is tested, without a command line"},
	{
		path: "internal/cli/verbs",
		never: []string{
			"k8s.io/kubernetes/...", "k8s.io/kubectl/...", "everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...",
			"everynode/internal/datadir", "everynode/internal/engine/...", "everynode/internal/fleet/...", "golang.org/x/sys/unix",
		},
		reason: "these commands need an API server and nothing else, so that they work with any cluster, and from any machine",
	},
	{
		path:   "internal/fleet",
		only:   []string{"std", "everynode/internal/fleet/...", "k8s.io/api/...", "k8s.io/apimachinery/...", "k8s.io/client-go/...", "golang.org/x/sync/..."},
		reason: "simulated nodes are to the cluster what real ones are, API clients and nothing else; cli wires them",
	},
	{
		path: "internal/compat",
		never: []string{
			"everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/cli/...",
		},
		reason: "tests alone: the engine beside Kubernetes' own controller, which only they may link, on a bare API server; nothing else takes part",
	},
	{
		path: "bench", never: []string{"everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/cli/..."},
		reason: "it measures the engine's program from outside, on a stock API server",
	},
	{path: "bench/report", only: []string{"std"}, reason: "statistics, table and plot are tested without linking an API server"},
	{path: "internal", never: []string{"everynode/bench/..."}, reason: "what is measured knows nothing of the measurement"},
	{path: "cmd", never: []string{"everynode/bench/..."}, reason: "what is measured knows nothing of the measurement"},
	{path: "examples", never: []string{"everynode/internal/..."}, reason: "what runs in a pod is not part of the cluster"},
	{path: "coredns", never: []string{"everynode/..."}, reason: "it is CoreDNS and the list of its plugins, and what runs in a pod is not a part of the cluster"},
	{path: "registry", never: []string{"everynode/..."}, reason: "it is distribution's registry and who may push to it; it starts like any program of others"},
	{path: "e2e", never: []string{"everynode/internal/..."}, reason: "it tests the real binary from outside"},
	{path: "deploy/monitoring", never: []string{"everynode/..."}, reason: "it tests files for Prometheus with Prometheus' own code, which nothing of ours shall be linked with"},
	{path: "deploy/gitops", never: []string{"everynode/..."}, reason: "it tests files for Argo CD and Flux with their own code, which nothing of ours shall be linked with"},
	{path: "conformance", never: []string{"everynode/internal/..."}, reason: "it tests the real binary from outside"},
}

// dependencyRule says what must not even be linked into a program.
type dependencyRule struct {
	program string
	never   []string
	reason  string
}

var dependencyRules = []dependencyRule{
	{
		program: "cmd/everynode-controller",
		never: []string{
			"k8s.io/kubernetes/...", "go.etcd.io/etcd/server/...", "github.com/containerd/containerd/...",
			"everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/cli/...",
		},
		reason: "it is the engine alone, made for a small image that runs on other clusters",
	},
	{
		program: "cmd/everynode", never: []string{"github.com/johannesboyne/gofakes3/..."},
		reason: "storage for tests is for tests",
	},
	{
		program: "cmd/kubectl-everynode",
		never: []string{
			"k8s.io/kubernetes/...", "k8s.io/kubectl/...", "k8s.io/apiserver/...", "k8s.io/component-base/...", "go.etcd.io/...", "github.com/containerd/...",
			"everynode/internal/controlplane/...", "everynode/internal/node/...", "everynode/internal/local/...", "everynode/internal/fleet/...", "everynode/internal/engine/...", "everynode/internal/cli",
		},
		reason: "it is a plugin of kubectl, for any cluster and for machines that are not Linux: it asks an API server, and has no part of one",
	},
	{
		program: "cmd/everynode-ingress", never: []string{"k8s.io/kubernetes/...", "everynode/internal/controlplane/...", "everynode/internal/cli/..."},
		reason: "it is the ingress controller alone, in a small image",
	},
	{
		program: "internal/view", never: []string{"k8s.io/client-go/...", "k8s.io/kubernetes/..."},
		reason: "a pure package must not get a client through a library either",
	},
	{
		program: "internal/audit", never: []string{"k8s.io/client-go/...", "k8s.io/kubernetes/..."},
		reason: "a pure package must not get a client through a library either",
	},
}

// selectorRule forbids a name of a package.
type selectorRule struct {
	path    string // "" everywhere
	pkg     string // import path
	names   []string
	tests   bool // test files as well
	unless  string
	because string
}

var selectorRules = []selectorRule{
	{path: "internal/plan", pkg: "time", names: []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, because: "now is an input"},
	{path: "internal/delivery", pkg: "time", names: []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, because: "now is an argument"},
	{path: "internal/view", pkg: "time", names: []string{"Now", "Since", "Until"}, because: "now is an input"},
	{path: "internal/fleetmap", pkg: "time", names: []string{"Now", "Since", "Until"}, because: "a picture does not depend on when it is drawn"},
	{path: "internal/audit", pkg: "time", names: []string{"Now", "Since", "Until"}, because: "now is an input"},
	{path: "internal/sim", pkg: "time", names: []string{"Now", "Since", "Until", "After", "Tick"}, because: "a simulation has its own clock"},
	{pkg: "context", names: []string{"TODO"}, tests: true, because: "contexts come in as arguments"},
	{pkg: "time", names: []string{"Sleep"}, tests: true, unless: "testing/synctest", because: "wait for a condition or a timer that a context can end"},
	{pkg: "io/ioutil", names: []string{"ReadFile", "ReadAll", "WriteFile", "ReadDir", "TempDir"}, tests: true, because: "deprecated"},
}

// source is one Go file.
type source struct {
	path string // with slashes, from the root of the repository
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s *source) dir() string { return path.Dir(s.path) }

func (s *source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// at names a place in the file.
func (s *source) at(node ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(node.Pos()).Line)
}

// imports maps the name of each imported package in the file to its path.
func (s *source) imports() map[string]string {
	names := map[string]string{}
	for _, spec := range s.file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = importPath
	}
	return names
}

func parse(name string, text []byte) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return &source{name, text, fset, file}, err
}

// within reports whether p is dir or below it.
func within(p, dir string) bool { return dir == "" || p == dir || strings.HasPrefix(p, dir+"/") }

// matches reports whether an import path fits one of the patterns.
func matches(importPath string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "std" {
			first, _, _ := strings.Cut(importPath, "/")
			return first != module && !strings.Contains(first, ".")
		}
		tree, whole := strings.CutSuffix(pattern, "/...")
		return importPath == tree || whole && strings.HasPrefix(importPath, tree+"/")
	})
}

// fileRules look at one file each and return what is wrong with it.
var fileRules = map[string]func(*source) []string{
	"imports":   checkImports,
	"selectors": checkSelectors,
	"lengths":   checkLengths,
	"init":      checkInit,
	"names":     checkNames,
	"globals":   checkGlobals,
}

func checkImports(s *source) (wrong []string) {
	for _, rule := range importRules {
		if !within(s.dir(), rule.path) || s.test() && rule.path != "e2e" && rule.path != "internal/compat" {
			continue
		}
		for _, spec := range s.file.Imports {
			importPath, _ := strconv.Unquote(spec.Path.Value)
			if matches(importPath, rule.never) || rule.only != nil && !matches(importPath, rule.only) {
				wrong = append(wrong, fmt.Sprintf("%s: %s must not import %s: %s", s.at(spec), rule.path, importPath, rule.reason))
			}
		}
	}
	return wrong
}

func checkSelectors(s *source) (wrong []string) {
	imports := s.imports()
	ast.Inspect(s.file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		base, ok := selector.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, rule := range selectorRules {
			exempt := s.test() && !rule.tests || rule.unless != "" && imports[path.Base(rule.unless)] == rule.unless
			if within(s.dir(), rule.path) && !exempt && imports[base.Name] == rule.pkg && slices.Contains(rule.names, selector.Sel.Name) {
				wrong = append(wrong, fmt.Sprintf("%s: no %s.%s here: %s", s.at(node), base.Name, selector.Sel.Name, rule.because))
			}
		}
		return true
	})
	return wrong
}

func checkLengths(s *source) (wrong []string) {
	maxFile, maxFunction := 500, 60
	if s.test() {
		maxFile, maxFunction = 800, 120
	}
	if lines := bytes.Count(s.text, []byte("\n")); lines > maxFile {
		wrong = append(wrong, fmt.Sprintf("%s: %d lines, at most %d: divide it", s.path, lines, maxFile))
	}
	for _, declaration := range s.file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := s.fset.Position(function.End()).Line - s.fset.Position(function.Pos()).Line + 1
		if lines > maxFunction {
			wrong = append(wrong, fmt.Sprintf("%s: %s has %d lines, at most %d: divide it", s.at(function), function.Name, lines, maxFunction))
		}
	}
	return wrong
}

// checkInit keeps flags out of init and out of package variables: a command line belongs to its command.
func checkInit(s *source) (wrong []string) {
	if s.test() {
		return nil // -update and its like have no other place
	}
	imports := s.imports()
	for _, declaration := range s.file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil || d.Name.Name != "init" {
				continue
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
		}
		ast.Inspect(declaration, func(node ast.Node) bool {
			if ident, ok := node.(*ast.Ident); ok && (imports[ident.Name] == "flag" || imports[ident.Name] == "github.com/spf13/pflag") {
				wrong = append(wrong, s.at(node)+": a flag belongs to the command that reads it, not to init or a package variable")
				return false
			}
			return true
		})
	}
	return wrong
}

var emptyNames = []string{"pkg", "util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}

func checkNames(s *source) (wrong []string) {
	for _, part := range append(strings.Split(s.dir(), "/"), s.file.Name.Name) {
		if slices.Contains(emptyNames, part) {
			wrong = append(wrong, fmt.Sprintf("%s: %q says nothing about what is in it", s.path, part))
		}
	}
	return wrong
}

// checkGlobals finds package variables of a file that the file's functions assign to. A local variable of the
// same name in the same function excuses it: this is a guard, not a type checker.
func checkGlobals(s *source) (wrong []string) {
	if s.test() {
		return nil
	}
	globals := map[string]bool{}
	for _, declaration := range s.file.Decls {
		if d, ok := declaration.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, spec := range d.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					globals[name.Name] = true
				}
			}
		}
	}
	for _, declaration := range s.file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Body == nil {
			continue
		}
		locals := localNames(function)
		ast.Inspect(function.Body, func(node ast.Node) bool {
			for _, target := range assigned(node) {
				if name := rootName(target); globals[name] && !locals[name] {
					wrong = append(wrong, fmt.Sprintf("%s: %s changes the package variable %s: pass it in", s.at(node), function.Name, name))
				}
			}
			return true
		})
	}
	return wrong
}

// assigned returns what a statement assigns to.
func assigned(node ast.Node) []ast.Expr {
	switch statement := node.(type) {
	case *ast.AssignStmt:
		if statement.Tok != token.DEFINE {
			return statement.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{statement.X}
	}
	return nil
}

// rootName returns the variable that an expression such as a.b[c] is a part of, or "".
func rootName(expression ast.Expr) string {
	for {
		switch e := expression.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			expression = e.X
		case *ast.IndexExpr:
			expression = e.X
		case *ast.ParenExpr:
			expression = e.X
		default:
			return ""
		}
	}
}

// localNames returns the names that a function declares, parameters and results included.
func localNames(function *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	add := func(expressions ...ast.Expr) {
		for _, e := range expressions {
			if ident, ok := e.(*ast.Ident); ok {
				names[ident.Name] = true
			}
		}
	}
	ast.Inspect(function, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				names[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				add(n.Lhs...)
			}
		case *ast.RangeStmt:
			add(n.Key, n.Value)
		case *ast.ValueSpec:
			for _, name := range n.Names {
				names[name.Name] = true
			}
		}
		return true
	})
	return names
}

// checkPackages finds packages that nothing introduces. Sources are of whole directories.
func checkPackages(sources []*source) (wrong []string) {
	documented := map[string]bool{}
	for _, s := range sources {
		if !s.test() {
			documented[s.dir()] = documented[s.dir()] || s.file.Doc.Text() != ""
		}
	}
	for dir, ok := range documented {
		if !ok {
			wrong = append(wrong, dir+": no package comment: say in a sentence or two what it is for")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// machinePath finds home directories and places of a build machine.
var machinePath = regexp.MustCompile(`(?:^|[^\w.)}-])/(?:home|Users|work|root)/[\w.]|/tmp/(?:work|bash_jobs)\b`)

// checkPaths finds paths of one machine in any text.
func checkPaths(name string, text []byte) (wrong []string) {
	for i, line := range strings.Split(string(text), "\n") {
		if found := machinePath.FindString(line); found != "" {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %q is a path of one machine", name, i+1, strings.TrimSpace(found)))
		}
	}
	return wrong
}

// checkDependencies finds what must not be among the packages that a program is linked from.
func checkDependencies(rule dependencyRule, packages []string) (wrong []string) {
	for _, importPath := range packages {
		if matches(importPath, rule.never) {
			wrong = append(wrong, fmt.Sprintf("%s depends on %s: %s", rule.program, importPath, rule.reason))
		}
	}
	return wrong
}

// tree calls visit with every file of the repository that people write.
func tree(t *testing.T, visit func(name string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", ".scratch", "testdata"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		// In a second work tree of git, .git is a file that says where the first is.
		if !entry.Type().IsRegular() || entry.Name() == "go.sum" || entry.Name() == ".git" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err == nil {
			visit(filepath.ToSlash(name), text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHouse(t *testing.T) {
	var sources []*source
	tree(t, func(name string, text []byte) {
		report(t, checkPaths(name, text))
		if !strings.HasSuffix(name, ".go") {
			return
		}
		s, err := parse(name, text)
		if err != nil {
			t.Error(err)
			return
		}
		sources = append(sources, s)
		for _, check := range fileRules {
			report(t, check(s))
		}
	})
	if len(sources) < 10 {
		t.Fatalf("%d Go files found: is this the root of the repository?", len(sources))
	}
	report(t, checkPackages(sources))
	report(t, checkMethods(countMethods(sources), manyMethods))
}

func TestDependencies(t *testing.T) {
	for _, rule := range dependencyRules {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+rule.program).Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, exit.Stderr)
			}
			t.Fatalf("go list -deps %s: %v", rule.program, err)
		}
		report(t, checkDependencies(rule, strings.Fields(string(out))))
	}
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}

// Every rule is shown to find what it is for, and to leave alone what looks like it.
func TestFileRulesFind(t *testing.T) {
	long := func(lines int) string { return strings.Repeat("//\n", lines) }
	body := func(lines int) string { return "func f() {" + strings.Repeat("\n", lines-1) + "}" }
	for _, tc := range []struct {
		rule, path, code string
		want             string // part of the finding; "" for none
	}{
		{"imports", "internal/plan/a.go", `import "os"`, "must not import os"},
		{"imports", "internal/plan/a.go", `import "net/http"`, "must not import net/http"},
		{"imports", "internal/plan/deep/a.go", `import "context"`, "must not import context"},
		{"imports", "internal/plan/a.go", `import "log/slog"`, "must not import log/slog"},
		{"imports", "internal/plan/a.go", `import v1 "k8s.io/api/core/v1"`, "no Kubernetes"},
		{"imports", "internal/plan/a.go", `import "everynode/internal/view"`, "must not import everynode/internal/view"},
		{"imports", "internal/plan/a.go", `import "slices"`, ""},
		{"imports", "internal/delivery/a.go", `import "context"`, "must not import context"},
		{"imports", "internal/delivery/a.go", `import "everynode/internal/engine"`, "must not import everynode/internal/engine"},
		{"imports", "internal/plan/a_test.go", `import "pgregory.net/rapid"`, ""},
		{"imports", "internal/planet/a.go", `import "os"`, ""},
		{"imports", "internal/view/a.go", `import "k8s.io/client-go/kubernetes"`, "talks to nobody"},
		{"imports", "internal/view/a.go", `import "k8s.io/apimachinery/pkg/labels"`, ""},
		{"imports", "internal/audit/a.go", `import "k8s.io/client-go/rest"`, "a function of what was read"},
		{"imports", "internal/lookout/a.go", `import "os"`, "knows neither this machine"},
		{"imports", "internal/fleetmap/a.go", `import "golang.org/x/term"`, "a function of a value"},
		{"imports", "internal/fleetview/a.go", `import "time"`, "is values"},
		{"imports", "internal/ui/a.go", `import "everynode/internal/lookout"`, "knows neither clusters"},
		{"imports", "internal/ui/a.go", `import "everynode/internal/fleetview"`, ""},
		{"imports", "internal/audit/a.go", `import "os"`, "a function of what was read"},
		{"imports", "internal/audit/a.go", `import "everynode/internal/view"`, ""},
		{"imports", "internal/sim/a.go", `import "k8s.io/client-go/rest"`, "must not import"},
		{"imports", "internal/engine/a.go", `import "k8s.io/kubernetes/pkg/controller"`, "runs alone"},
		{"imports", "internal/engine/a.go", `import "everynode/internal/controlplane"`, "must not import"},
		{"imports", "internal/engine/a.go", `import "k8s.io/client-go/rest"`, ""},
		{"imports", "internal/controlplane/a.go", `import "everynode/internal/engine"`, "cli wires them"},
		{"imports", "internal/controlplane/admission/a.go", `import "everynode/internal/datadir"`, "nothing of this server"},
		{"imports", "internal/node/a.go", `import "everynode/internal/local"`, "cli wires them"},
		{"imports", "internal/local/a.go", `import "everynode/internal/node"`, "cli wires them"},
		{"imports", "internal/local/a.go", `import "everynode/internal/cli"`, "cli wires them"},
		{"imports", "internal/engine/a.go", `import "everynode/internal/fleet"`, "must not import"},
		{"imports", "internal/cli/a.go", `import "everynode/internal/node"`, ""},
		{"imports", "internal/cli/verbs/a.go", `import "everynode/internal/local"`, "need an API server and nothing else"},
		{"imports", "internal/cli/verbs/a.go", `import "everynode/internal/why"`, ""},
		{"imports", "internal/cli/localcluster/a.go", `import "github.com/spf13/cobra"`, "without a command line"},
		{"imports", "internal/cli/console/a.go", `import "everynode/internal/cli/verbs"`, "knows no command"},
		{"imports", "internal/compat/a_test.go", `import "everynode/internal/cli"`, "nothing else takes part"},
		{"imports", "internal/compat/a_test.go", `import "k8s.io/kubernetes/pkg/controller/daemon"`, ""},
		{"imports", "internal/compat/a_test.go", `import "everynode/internal/engine"`, ""},
		{"imports", "internal/fleet/a.go", `import "everynode/internal/engine"`, "API clients and nothing else"},
		{"imports", "internal/fleet/a.go", `import "k8s.io/kubernetes/pkg/kubelet"`, "API clients and nothing else"},
		{"imports", "internal/fleet/a.go", `import "k8s.io/client-go/informers"`, ""},
		{"imports", "examples/x/a.go", `import "everynode/internal/plan"`, "not part of the cluster"},
		{"imports", "coredns/a.go", `import "everynode/internal/local"`, "the list of its plugins"},
		{"imports", "coredns/a.go", `import "github.com/coredns/coredns/coremain"`, ""},
		{"imports", "bench/a.go", `import "everynode/internal/controlplane"`, "from outside"},
		{"imports", "bench/a.go", `import "k8s.io/kubernetes/cmd/kube-apiserver/app"`, ""},
		{"imports", "bench/report/a.go", `import "k8s.io/api/core/v1"`, "without linking an API server"},
		{"imports", "internal/engine/a.go", `import "everynode/bench/report"`, "knows nothing of the measurement"},
		{"imports", "e2e/a_test.go", `import "everynode/internal/plan"`, "from outside"},
		{"imports", "conformance/a.go", `import "everynode/internal/plan"`, "from outside"},

		{"selectors", "internal/plan/a.go", "import \"time\"\nvar _ = time.Now", "now is an input"},
		{"selectors", "internal/plan/a.go", "import clock \"time\"\nvar _ = clock.Since", "no clock.Since"},
		{"selectors", "internal/plan/a.go", "import \"time\"\nvar _ = time.Second", ""},
		{"selectors", "internal/audit/a.go", "import \"time\"\nvar _ = time.Now", "now is an input"},
		{"selectors", "internal/engine/a.go", "import \"time\"\nvar _ = time.Now", ""},
		{"selectors", "internal/sim/a.go", "import \"time\"\nvar _ = time.After", "its own clock"},
		{"selectors", "internal/cli/a.go", "import \"context\"\nvar _ = context.TODO", "come in as arguments"},
		{"selectors", "internal/cli/a_test.go", "import \"time\"\nvar _ = time.Sleep", "wait for a condition"},
		{"selectors", "internal/cli/a_test.go", "import (\"time\"; \"testing/synctest\")\nvar _ = time.Sleep\nvar _ = synctest.Test", ""},
		{"selectors", "a.go", "import \"io/ioutil\"\nvar _ = ioutil.ReadAll", "deprecated"},

		{"lengths", "a.go", long(500), "502 lines, at most 500"},
		{"lengths", "a.go", long(400), ""},
		{"lengths", "a_test.go", long(700), ""},
		{"lengths", "a_test.go", long(800), "at most 800"},
		{"lengths", "a.go", body(61), "f has 61 lines"},
		{"lengths", "a.go", body(60), ""},
		{"lengths", "a_test.go", body(120), ""},
		{"lengths", "a_test.go", body(121), "at most 120"},

		{"init", "a.go", "import \"flag\"\nfunc init() { flag.Parse() }", "belongs to the command"},
		{"init", "a.go", "import \"github.com/spf13/pflag\"\nvar name = pflag.String(\"a\", \"\", \"\")", "belongs to the command"},
		{"init", "a_test.go", "import \"flag\"\nvar update = flag.Bool(\"update\", false, \"\")", ""},
		{"init", "a.go", "import \"flag\"\nfunc run() { flag.Parse() }", ""},

		{"names", "internal/utils/a.go", "", `"utils" says nothing`},
		{"names", "pkg/plan/a.go", "", `"pkg" says nothing`},
		{"names", "internal/plan/a.go", "", ""},

		{"globals", "a.go", "var n int\nfunc f() { n++ }", "f changes the package variable n"},
		{"globals", "a.go", "var m = map[string]struct{ x []int }{}\nfunc (s *T) f() { m[\"a\"].x[0] = 1 }", "changes the package variable m"},
		{"globals", "a.go", "var n int\nfunc f() { n := 1; n = 2 }", ""},
		{"globals", "a.go", "var n int\nfunc f(n int) { n = 2 }", ""},
		{"globals", "a_test.go", "var n int\nfunc f() { n++ }", ""},
	} {
		s, err := parse(tc.path, []byte("package x\n"+tc.code+"\n"))
		if err != nil {
			t.Errorf("%s: %q: %v", tc.rule, tc.code, err)
			continue
		}
		found := strings.Join(fileRules[tc.rule](s), "\n")
		if (found == "") != (tc.want == "") || !strings.Contains(found, tc.want) {
			t.Errorf("%s: %s with %.60q: found %q, want %q", tc.rule, tc.path, tc.code, found, tc.want)
		}
	}
}

func TestOtherRulesFind(t *testing.T) {
	var sources []*source
	for name, text := range map[string]string{
		"a/a.go": "// Package a is here.\npackage a", "a/b.go": "package a",
		"b/b.go": "package b", "b/b_test.go": "// Package b has its comment in the wrong file.\npackage b",
		"c/c_test.go": "package c",
	} {
		s, err := parse(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	if found := checkPackages(sources); len(found) != 1 || !strings.HasPrefix(found[0], "b: no package comment") {
		t.Errorf("package comments: %q", found)
	}
	for text, want := range map[string]bool{
		"see /" + "home/ada/notes":           true,
		"\"/" + "Users/ada\"":                true,
		"cd /" + "work/main":                 true,
		"/" + "root/go/pkg":                  true,
		"/tmp/" + "work/x":                   true,
		"root:x:0:0:root:/" + "root:/bin/sh": false,
		"everynode/" + "work/x":              false,
		"https://a.example/home/x":           false,
		"/var/lib/everynode":                 false,
	} {
		if found := checkPaths("a.md", []byte("\n"+text)); (len(found) == 1) != want {
			t.Errorf("machine path in %q: %q", text, found)
		}
	}
	packages := []string{"fmt", "k8s.io/kubernetes/pkg/apis/core", "go.etcd.io/etcd/server/v3/embed", "go.etcd.io/etcd/client/v3", "k8s.io/kubernetesque"}
	found := checkDependencies(dependencyRules[0], packages)
	if len(found) != 2 || !strings.Contains(found[0], "k8s.io/kubernetes/pkg") || !strings.Contains(found[1], "etcd/server") {
		t.Errorf("dependencies: %q", found)
	}
}
