package rollout

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"everynode/internal/plan"
)

var update = flag.Bool("update", false, "write the tables of testdata/*.txtar as they come out")

// TestScripts plays testdata/*.txtar, each of which is a release as a table over time.
// testdata/README.md says how they are written.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scripts (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	script, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w, section := newWorld(), map[string]*txtar.File{}
	for i := range script.Files {
		section[script.Files[i].Name] = &script.Files[i]
	}
	if f := section["policy"]; f != nil {
		w.policy.Waves = nil
		eachLine(t, f, w.policyLine)
		if wrong := w.policy.Check(); wrong != nil {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
	eachLine(t, section["nodes"], w.nodeLine)
	eachLine(t, section["events"], w.event)
	got := w.table()
	want := section["table"]
	if string(want.Data) == got {
		return
	}
	if *update {
		want.Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(script), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("got:\n%swant:\n%s", got, want.Data)
}

func eachLine(t *testing.T, f *txtar.File, do func([]string) error) {
	t.Helper()
	if f == nil {
		t.Fatal("a section is missing")
	}
	for line := range strings.Lines(string(f.Data)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			if err := do(words); err != nil {
				t.Fatalf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
}

func parseAmount(s string) (a plan.Amount, err error) {
	digits, percent := strings.CutSuffix(s, "%")
	a.Percent = percent
	a.Value, err = strconv.Atoi(digits)
	return a, err
}

func (w *world) policyLine(words []string) (err error) {
	switch words[0] {
	case "wave":
		wave := Wave{Name: words[1]}
		if wave.Nodes, err = parseAmount(words[2]); err != nil {
			return err
		}
		for _, word := range words[3:] {
			if err := wave.setting(word); err != nil {
				return err
			}
		}
		w.policy.Waves = append(w.policy.Waves, wave)
	case "failure":
		w.policy.Failure.Back = len(words) > 2 && words[2] == "back"
		w.policy.Failure.Nodes, err = parseAmount(words[1])
	case "window": // window Mon,Thu 9 16
		var window Window
		for _, name := range strings.Split(words[1], ",") {
			for d := range time.Weekday(7) {
				if strings.HasPrefix(d.String(), name) {
					window.Days = append(window.Days, d)
				}
			}
		}
		if _, err := fmt.Sscan(words[2]+" "+words[3], &window.From, &window.To); err != nil {
			return err
		}
		window.From, window.To = window.From*60, window.To*60
		if window.Zone, err = time.LoadLocation("Europe/Berlin"); err != nil {
			return err
		}
		w.policy.Windows = append(w.policy.Windows, window)
	case "bound":
		w.bound, err = strconv.Atoi(words[1])
	default:
		return fmt.Errorf("unknown")
	}
	return err
}

func (w *Wave) setting(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "soak":
		w.Soak, err = time.ParseDuration(value)
	case "approval":
		w.Approval = true
	case "prefer":
		k, v, _ := strings.Cut(value, "=")
		w.Prefer = map[string]string{k: v}
	case "cover":
		w.Cover = strings.Split(value, ",")
	case "one":
		w.OneAtATime = value
	default:
		return fmt.Errorf("%s is not a setting of a wave", word)
	}
	return err
}

// nodeLine: NAME[..NAME] [revision=R] [down] [KEY=VALUE]
func (w *world) nodeLine(words []string) error {
	first, last, many := strings.Cut(words[0], "..")
	names := []string{first}
	if many {
		names = nil
		var from, to int
		if _, err := fmt.Sscan(strings.TrimLeft(first, "n")+" "+strings.TrimLeft(last, "n"), &from, &to); err != nil {
			return err
		}
		for i := from; i <= to; i++ {
			names = append(names, fmt.Sprintf("n%d", i))
		}
	}
	for _, name := range names {
		w.add(name, map[string]string{})
		w.nodes[name].revision = "a"
		for _, word := range words[1:] {
			switch key, value, _ := strings.Cut(word, "="); key {
			case "revision":
				w.nodes[name].revision = value
			case "down":
				w.nodes[name].Down = true
			default:
				w.nodes[name].Labels[key] = value
			}
		}
	}
	return nil
}

// event: TIME WHAT [SUBJECT]
func (w *world) event(words []string) error {
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	if at > 0 {
		w.run(at)
	}
	subject := ""
	if len(words) > 2 {
		subject = words[2]
	}
	node := w.nodes[subject]
	switch words[1] {
	case "target":
		w.target = subject
	case "bad":
		w.bad[subject] = true
	case "sick":
		node.sick, node.sickAt = true, w.now
	case "cured":
		node.sick = false
	case "refuse", "accept":
		node.refuses = words[1] == "refuse"
	case "down":
		node.Down = true
	case "up":
		node.Down = false
	case "add":
		err = w.nodeLine(append(words[2:], "revision="))
	case "label":
		key, value, _ := strings.Cut(words[3], "=")
		node.Labels[key] = value
	case "remove":
		delete(w.nodes, subject)
	case "problem":
		w.problem = map[string]Reason{"policy": PolicyGone, "stable": StableGone, "none": NoReason}[subject]
	case "unwell", "well":
		w.unwell = words[1] == "unwell"
	case "leader":
		w.state = w.state.Kept()
		w.now += time.Minute // in which nobody leads
	case "without": // a wave of the policy
		w.policy.Waves = slices.Delete(w.policy.Waves, w.policy.wave(subject), w.policy.wave(subject)+1)
	case "end":
	default:
		err = w.request(words[1], subject)
	}
	if words[1] != "bad" {
		w.settle()
	}
	return err
}

func (w *world) request(what, subject string) (err error) {
	switch r := &w.requests; what {
	case "pause", "continue":
		r.Paused = what == "pause"
	case "promote": // WAVE, or *; of this release, or WAVE@RELEASE
		wave, release, ok := strings.Cut(subject, "@")
		r.Promote = Promotion{Release: w.state.Release, Wave: wave, All: wave == "*"}
		if ok {
			r.Promote.Release, err = strconv.Atoi(release)
		}
	case "abort":
		r.Abort = w.state.Release
	case "retry":
		r.Retry = w.state.Release
	case "plain":
		r.Plain = w.state.Release
	case "clear":
		*r = Requests{}
	case "resume":
		r.Resume = Resumption{Release: w.state.Release, Stop: w.state.Stops}
	default:
		err = fmt.Errorf("nothing is called %s", what)
	}
	return err
}
