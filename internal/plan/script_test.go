package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the plans of testdata/*.txtar as they come out")

// TestScripts runs testdata/*.txtar. A script is a story in sections: each section replaces that part of the
// world, and each "plan" section is what Make returns for the world at that point. Text after a colon is a
// title.
//
//	-- set --       the DaemonSet, one setting a line: see parseSetting
//	-- nodes --     one node a line: see parseNode
//	-- pods --      one pod a line: see parsePod
//	-- gone --      names of nodes that are known to be gone
//	-- left --      names of nodes that a pod has left: see Input.Left
//	-- waits --     NODE DURATION KIND POD WHAT: see Input.Waits; POD is - of a create
//	-- backoff --   NODE last=AGE delay=DURATION [pod=UID] [refused] [rev=HASH]
//	                [created=AGE] [first=AGE] [seen=MOMENT]
//	                [remade=AGE again=N [by=N]]
//	-- release --   the release under way, after the set: see parseRelease
//	-- reached --   NODE RELEASE: see Input.Reached
//	-- refused --   NODE DURATION [AGE]: see Refusal
//	-- guard --     there is one; names of nodes that may lose their pods
//	-- plan --      what Render prints
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d scripts, want at least 20 (%v)", len(files), err)
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
	in := &Input{Now: scriptNow()}
	plans, changed := 0, false
	var out Plan // reused from step to step, as in the engine
	for i := range script.Files {
		f := &script.Files[i]
		section, _, _ := strings.Cut(f.Name, ":")
		if section != "plan" {
			if err := parseSection(in, section, string(f.Data)); err != nil {
				t.Fatalf("%s, section %q: %v", file, f.Name, err)
			}
			continue
		}
		plans++
		Make(in, &out)
		got := Render(&out, in.Now)
		if *update {
			changed = changed || got != string(f.Data)
			f.Data = []byte(got)
		} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
			t.Errorf("%s, section %q (-want +got):\n%s", file, f.Name, diff)
		}
	}
	if plans == 0 {
		t.Errorf("%s has no plan", file)
	}
	if changed {
		if err := os.WriteFile(file, txtar.Format(script), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func scriptNow() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

func parseSection(in *Input, section, text string) (err error) {
	switch section {
	case "set":
		in.Set = Spec{}
	case "nodes":
		in.Nodes = nil
	case "pods":
		in.Pods = nil
	case "gone":
		in.Gone = map[string]bool{}
	case "left":
		in.Left = map[string]bool{}
	case "waits":
		in.Waits = map[string][]Wait{}
	case "backoff":
		in.Backoff = map[string]Backoff{}
	case "release":
		in.Release = nil
	case "reached":
		in.Reached = map[string]int{}
	case "refused":
		in.Refused = map[string]Refusal{}
	case "guard":
		in.Guard = &Guard{Allowed: map[string]bool{}}
	default:
		return fmt.Errorf("unknown section")
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch section {
		case "set":
			err = parseSetting(&in.Set, words)
		case "nodes":
			var n Node
			n, err = parseNode(words, in.Now)
			in.Nodes = append(in.Nodes, n)
		case "pods":
			var p Pod
			p, err = parsePod(words, in.Now)
			in.Pods = append(in.Pods, p)
		case "gone":
			in.Gone[words[0]] = true
		case "left":
			in.Left[words[0]] = true
		case "waits":
			var w Wait
			w, err = parseWait(words[1:], in)
			in.Waits[words[0]] = append(in.Waits[words[0]], w)
		case "backoff":
			in.Backoff[words[0]], err = parseBackoff(words[1:], in.Now)
		case "release":
			err = parseRelease(in, words)
		case "reached":
			err = parseReached(in, words)
		case "refused":
			in.Refused[words[0]], err = parseRefusal(words[1:], in.Now)
		case "guard":
			in.Guard.Allowed[words[0]] = true
		}
		if err != nil {
			return fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
	}
	return nil
}

// parseWait parses: DURATION create|delete|force|change|claim POD WHAT...; a DURATION of "-" is a wait whose
// end is not known.
func parseWait(words []string, in *Input) (w Wait, err error) {
	if len(words) < 3 {
		return w, fmt.Errorf("want a duration, a kind, a pod or -, and what was refused")
	}
	kind, known := map[string]ActKind{"create": Creating, "delete": Deleting, "force": Deleting, "change": Changing, "claim": Claiming}[words[1]]
	if !known {
		return w, fmt.Errorf("unknown kind of act")
	}
	w.Act = Act{Kind: kind, Now: words[1] == "force"}
	if kind != Creating {
		w.Act.Pod = "uid-" + words[2]
	}
	w.What = strings.Join(words[3:], " ")
	if words[0] != "-" {
		var d time.Duration
		d, err = time.ParseDuration(words[0])
		w.Until = in.Now.Add(d)
	}
	return w, err
}

// parseRefusal parses: DURATION [AGE].
func parseRefusal(words []string, now time.Time) (r Refusal, err error) {
	r.Last = now
	if r.For, err = time.ParseDuration(words[0]); err != nil || len(words) == 1 {
		return r, err
	}
	age, err := time.ParseDuration(words[1])
	r.Last = now.Add(-age)
	return r, err
}

// parseSetting reads: revision HASH, generation N, onDelete, maxUnavailable
// N[%], maxSurge N[%], minReady DURATION, scheduled, assists, inPlace HASH..., halt REASON, nodeName
// NAME, nodeSelector KEY=VALUE..., tolerate *|KEY[=VALUE][:EFFECT], affinity
// KEY OPERATOR [VALUE...], and ... (the same, in the same term), names
// OPERATOR NAME.
func parseSetting(set *Spec, words []string) (err error) {
	p := &set.Placement
	arg := ""
	if len(words) > 1 {
		arg = words[1]
	}
	switch words[0] {
	case "revision":
		set.Hash = arg
	case "generation":
		set.Generation, err = strconv.ParseInt(arg, 10, 64)
	case "onDelete":
		set.Strategy = OnDelete
	case "maxUnavailable":
		set.MaxUnavailable, err = parseAmount(arg)
	case "maxSurge":
		set.MaxSurge, err = parseAmount(arg)
	case "minReady":
		set.MinReady, err = time.ParseDuration(arg)
	case "scheduled":
		set.Scheduled = true
	case "assists":
		set.Assists = true
	case "inPlace":
		set.InPlace = map[string]bool{}
		for _, hash := range words[1:] {
			set.InPlace[hash] = true
		}
	case "halt":
		set.Halt, err = parseReason(arg)
		set.HaltDetail = strings.Join(words[2:], " ")
	case "nodeName":
		p.NodeName = arg
	case "nodeSelector":
		p.Selector, err = parsePairs(words[1:])
	case "tolerate":
		err = parseToleration(p, arg)
	case "affinity":
		p.Terms = append(p.Terms, Term{Labels: []Requirement{parseRequirement(words[1:])}})
	case "and":
		last := &p.Terms[len(p.Terms)-1]
		last.Labels = append(last.Labels, parseRequirement(words[1:]))
	case "names":
		p.Terms = append(p.Terms, Term{Names: []Requirement{parseRequirement(append([]string{nameField}, words[1:]...))}})
	default:
		err = fmt.Errorf("unknown setting")
	}
	return err
}

func parseAmount(s string) (Amount, error) {
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	return Amount{Value: n, Percent: percent}, err
}

func parseReason(s string) (Reason, error) {
	for r := range Reason(len(reasonText)) {
		if r.String() == s {
			return r, nil
		}
	}
	return NoReason, fmt.Errorf("no reason is called %q", s)
}

func parsePairs(words []string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY=VALUE", w)
		}
		pairs[k] = v
	}
	return pairs, nil
}

func parseRequirement(words []string) Requirement {
	ops := map[string]Operator{"In": In, "NotIn": NotIn, "Exists": Exists, "DoesNotExist": DoesNotExist, "Gt": Gt, "Lt": Lt}
	return Requirement{Key: words[0], Operator: ops[words[1]], Values: words[2:]}
}

func parseToleration(p *Placement, s string) error {
	if s == "*" {
		p.Tolerations = append(p.Tolerations, Toleration{Exists: true})
		return nil
	}
	t, err := parseTaint(s)
	o := Toleration{Key: t.Key, Value: t.Value, Effect: t.Effect, Exists: t.Value == ""}
	for sign, op := range map[string]Operator{">": Gt, "<": Lt} {
		if key, n, ok := strings.Cut(t.Key, sign); ok {
			o = Toleration{Key: key, Value: n, Effect: t.Effect, Compare: op}
		}
	}
	p.Tolerations = append(p.Tolerations, o)
	return err
}

func parseTaint(s string) (Taint, error) {
	pair, effect, _ := strings.Cut(s, ":")
	key, value, _ := strings.Cut(pair, "=")
	for _, e := range []Effect{AnyEffect, NoSchedule, PreferNoSchedule, NoExecute} {
		if e.String() == effect {
			return Taint{Key: key, Value: value, Effect: e}, nil
		}
	}
	return Taint{}, fmt.Errorf("unknown effect %q", effect)
}

// parseNode reads: NAME [KEY=VALUE...] [taint:KEY[=VALUE]:EFFECT...]
// [notready[=AGE]] [down=MOMENT] [never] [leaving] [changed=AGE]. A node is Ready unless it
// says otherwise.
func parseNode(words []string, now time.Time) (n Node, err error) {
	n = Node{Name: words[0], UID: "uid-" + words[0], Ready: true, Labels: map[string]string{}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		spec, tainted := strings.CutPrefix(w, "taint:")
		switch {
		case tainted:
			var t Taint
			t, err = parseTaint(spec)
			n.Taints = append(n.Taints, t)
		case key == "changed":
			n.Changed, err = ago(value, now)
		case key == "notready":
			n.Ready = false
			n.ReadyChanged, err = ago(value, now)
		case key == "down":
			n.Down, err = parseMoment(value)
		case w == "never":
			n.NeverReady = true
		case w == "leaving":
			n.Leaving = true
		default:
			n.Labels[key] = value
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func parseMoment(s string) (Moment, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	return Moment(n), err
}

// ago returns the instant of an age; zero if there is none.
func ago(age string, now time.Time) (time.Time, error) {
	if age == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(age)
	return now.Add(-d), err
}

// parsePod reads: NAME NODE|- [rev=HASH] [gen=N] [age=AGE] [ready[=AGE]]
// [wasready] [pending|failed|succeeded|refused] [unbound] [deleted=AGE]
// [forced] [uncertain] [assumed] [newer] [stuck] [restarts=N] [since=AGE] [seen=MOMENT] [seendeleted=MOMENT]
// [changed=AGE] [changing[=SETTLES]] [unchangeable]. A pod runs and is an hour old unless it says otherwise.
func parsePod(words []string, now time.Time) (p Pod, err error) {
	p = Pod{Name: words[0], UID: "uid-" + words[0], Bound: words[1] != "-",
		Phase: Running, Created: now.Add(-time.Hour)}
	if words[1] != "-" {
		p.Node = words[1]
	}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "rev":
			p.Hash = value
		case "gen":
			p.Generation, err = strconv.ParseInt(value, 10, 64)
		case "age":
			p.Created, err = ago(value, now)
		case "ready":
			p.Ready = true
			p.ReadySince, err = ago(value, now)
		case "deleted":
			p.Deleted, err = ago(value, now)
		case "seen":
			p.SeenCreated, err = parseMoment(value)
		case "restarts":
			p.Restarts, err = parseRestarts(value)
		case "since": // since when it is not ready
			p.WasReady = true
			p.ReadySince, err = ago(value, now)
		case "seendeleted":
			p.SeenDeleted, err = parseMoment(value)
		case "changed":
			p.Changed, err = ago(value, now)
		case "changing":
			p.Changing = true
			if value != "" {
				p.Settles, err = time.ParseDuration(value)
			}
		default:
			err = podFlag(&p, w)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func podFlag(p *Pod, word string) error {
	switch word {
	case "pending":
		p.Phase = Pending
	case "failed":
		p.Phase = Failed
	case "succeeded":
		p.Phase = Succeeded
	case "refused":
		p.Phase, p.Refused = Failed, true
	case "unbound":
		p.Bound, p.Phase = false, Pending
	case "wasready":
		p.WasReady = true
	case "forced":
		p.Forced = true
	case "left":
		p.Left = true
	case "uncertain":
		p.Uncertain = true
	case "assumed":
		p.Uncertain, p.Assumed = true, true
	case "newer":
		p.Newer = true
	case "stuck":
		p.Stuck = true
	case "unchangeable":
		p.Unchangeable = true
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

func parseBackoff(words []string, now time.Time) (b Backoff, err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "last":
			b.Last, err = ago(value, now)
		case "delay":
			b.Delay, err = time.ParseDuration(value)
		case "pod":
			b.Pod = value
		case "rev":
			b.Hash = value
		case "created":
			b.Created, err = ago(value, now)
		case "first":
			b.First, err = ago(value, now)
		case "seen":
			b.FirstSeen, err = parseMoment(value)
		case "refused":
			b.Refused = true
		case "remade":
			b.Remakes.Last, err = ago(value, now)
		case "again":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 8)
			b.Remakes.Again = uint8(n)
		case "by":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 8)
			b.Remakes.By = Disruptor(n)
		case "waited":
			b.Waited, err = ago(value, now)
		default:
			err = fmt.Errorf("unknown word %q", w)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}
