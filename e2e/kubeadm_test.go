package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
)

// onKubeadm is the condition that holds when scripts run on a cluster that kubeadm made.
const onKubeadm = "kubeadm"

// TestKubeadm installs the engine on plain Kubernetes, with the commands of docs/install.md as they are printed there, runs the
// article on it, word for word as TestScripts runs it on our cluster, and gives the cluster back to the built-in controller. Then
// the engine assists that controller (docs/managed.md). On the way the test asks the cluster for the defaults that
// docs/security.md compares ours with. With EVERYNODE_LONG it also installs the engine in the other ways.
//
// The cluster has four machines. kubeadm makes it, with its certificates, flags and rights. etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and a kubelet for each machine are the unchanged programs of their modules, each a
// process of its own (make stock). There is no registry, so the images of the control plane are packed from the same programs.
// kubeadm's addons are left out: nothing here needs kube-proxy or DNS.
func TestKubeadm(t *testing.T) {
	bin := needMachine(t)
	if _, err := os.Stat(filepath.Join(bin, "stock", ".built")); err != nil {
		t.Fatalf("no Kubernetes to install on: %v; run `make stock`", err)
	}
	script := filepath.Join(t.TempDir(), "kubeadm.txtar")
	parts := []string{"kubeadm/before.txtar", "kubeadm/compared.txtar", "article.txtar", "kubeadm/back.txtar", "kubeadm/handed-back.txtar", "kubeadm/assist.txtar", "kubeadm/after.txtar"}
	if os.Getenv("EVERYNODE_LONG") != "" {
		parts = slices.Insert(parts, 4, "kubeadm/otherways.txtar")
	}
	if err := os.WriteFile(script, joinScripts(t, parts), 0o600); err != nil {
		t.Fatal(err)
	}
	runScripts(t, testscript.Params{
		Files:     []string{script},
		Setup:     func(env *testscript.Env) error { return setUp(env, bin, "") },
		Condition: conditions(onKubeadm),
	})
}

// joinScripts joins several scripts of testdata into one, with the files of all.
func joinScripts(t *testing.T, names []string) []byte {
	t.Helper()
	var whole txtar.Archive
	for _, name := range names {
		part, err := txtar.ParseFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		whole.Comment = append(append(whole.Comment, part.Comment...), '\n')
		whole.Files = append(whole.Files, part.Files...)
	}
	return txtar.Format(&whole)
}

// printed writes commands that docs/install.md, or another page, prints into a file: the code blocks under a heading that contain
// this text. Exactly one block must.
func printed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: printed HEADING TEXT FILE [PAGE]")
	}
	page := append(args, "install.md")[3]
	text, err := os.ReadFile(filepath.Join(ts.Getenv("REPOSITORY"), "docs", page))
	ts.Check(err)
	found := slices.DeleteFunc(codeBlocks(string(text), args[0]), func(block string) bool { return !strings.Contains(block, args[1]) })
	if len(found) != 1 {
		ts.Fatalf("docs/%s has %d code blocks with %q under %q, not one", page, len(found), args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(found[0]), 0o644))
}

// codeBlocks returns what is indented by four spaces under a heading.
func codeBlocks(text, heading string) (blocks []string) {
	here, open := false, false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			here = strings.TrimLeft(strings.TrimSpace(line), "# ") == heading
		}
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case !here || !ok:
			open = open && here && line == "\n" // a block may have empty lines
		case open:
			blocks[len(blocks)-1] += code
		default:
			blocks, open = append(blocks, code), true
		}
	}
	return blocks
}

func TestCodeBlocks(t *testing.T) {
	const page = "# one\n\nText:\n\n    a\n\n    b\n\ntext\n\n    c\n\n## two\n\n    d\n\n### two\n    e\n"
	for heading, want := range map[string][]string{"one": {"a\nb\n", "c\n"}, "two": {"d\n", "e\n"}, "three": nil} {
		if got := codeBlocks(page, heading); !slices.Equal(got, want) {
			t.Errorf("under %q: %q, want %q", heading, got, want)
		}
	}
}
