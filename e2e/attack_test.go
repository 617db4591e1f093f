package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
)

// attempt is one thing that a pod in the host network tries. Scripts list attempts in a file, one a line:
//
//	WHAT | DO TARGET | AS WHOM | REFUSAL | BODY
//
// e2e/probe makes the attempts. None may succeed, and what the pod gets back must match REFUSAL, a regular
// expression. docs/security.md lists them.
type attempt struct {
	what, do, target, as, refusal, body string
}

func parseAttempts(text string) (list []attempt, err error) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		parts := strings.SplitN(line, " | ", 5)
		if len(parts) < 4 {
			return nil, fmt.Errorf("not WHAT | DO TARGET | AS WHOM | REFUSAL | BODY: %s", line)
		}
		a := attempt{what: parts[0], as: parts[2], refusal: parts[3]}
		a.do, a.target, _ = strings.Cut(parts[1], " ")
		if len(parts) > 4 {
			a.body = parts[4]
		}
		list = append(list, a)
	}
	return list, nil
}

// attackerImage builds the image example.com/attacker:1, whose only program is e2e/probe.
func attackerImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: attacker-image ARCHIVE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	root := filepath.Join(clusterOf(ts).workDir, ".attacker")
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(root, "probe"), "./probe")
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("build e2e/probe: %v\n%s", err, out)
	}
	ts.Check(ts.Exec("everynode", "image", "build", root, "--name", "example.com/attacker:1", "--entrypoint", "/probe", "--output", ts.MkAbs(args[0])))
}

// attemptTime is longer than e2e/probe takes for an attempt.
const attemptTime = 6 * time.Second

// attack has a pod make all the attempts in a file.
func attack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: attack POD FILE")
	}
	list, err := parseAttempts(os.Expand(ts.ReadFile(args[1]), ts.Getenv))
	ts.Check(err)
	var in, errOut bytes.Buffer
	for _, a := range list {
		line, err := json.Marshal(map[string]string{"Do": a.do, "Target": a.target, "As": a.as, "Body": a.body})
		ts.Check(err)
		in.Write(append(line, '\n'))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(len(list))*attemptTime)
	defer cancel()
	cmd, err := command(ctx, ts, "kubectl", "exec", "-i", args[0], "--", "/probe")
	ts.Check(err)
	cmd.Stdin, cmd.Stderr = &in, &errOut
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("the attacker: %v\n%s%s", err, out, errOut.Bytes())
	}
	answers := json.NewDecoder(bytes.NewReader(out))
	failed := 0
	for _, a := range list {
		var got struct {
			Done bool
			Text string
		}
		if err := answers.Decode(&got); err != nil {
			ts.Fatalf("the answer to %q: %v", a.what, err)
		}
		if got.Done || !pattern(ts, a.refusal).MatchString(got.Text) {
			failed++
			ts.Logf("%s: done %t, want a refusal that matches %#q:\n%s", a.what, got.Done, a.refusal, got.Text)
		}
	}
	if failed > 0 {
		ts.Fatalf("%d of %d attempts are not refused as they should be", failed, len(list))
	}
}

// TestAttemptsAreListed checks that docs/security.md lists exactly the attempts that the pod in the host network
// makes.
func TestAttemptsAreListed(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(docs)) {
		if what, ok := strings.CutPrefix(line, "| a pod in the host network | "); ok {
			listed[strings.TrimSuffix(strings.TrimSpace(what), " |")] = true
		}
	}
	for _, script := range []string{"shared/attack.txtar", "machines.txtar"} {
		archive, err := txtar.ParseFile(filepath.Join("testdata", script))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name != "attempts" {
				continue
			}
			list, err := parseAttempts(string(file.Data))
			if err != nil || len(list) == 0 {
				t.Fatalf("%s: %d attempts, %v", script, len(list), err)
			}
			for _, a := range list {
				if !listed[a.what] {
					t.Errorf("docs/security.md does not list: %s", a.what)
				}
				delete(listed, a.what)
			}
		}
	}
	for what := range listed {
		t.Errorf("no script tries: %s", what)
	}
}
