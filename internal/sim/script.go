package sim

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Parse reads a scenario from a txtar archive. The text before the first
// section is the comment.
//
//	-- seed --       a number
//	-- set --        one setting a line: strategy OnDelete, maxUnavailable N[%],
//	                 maxSurge N[%], minReady DURATION, pool NAME, tolerate all,
//	                 scheduled yes
//	-- cluster --    finalizers, taint-not-ready, keep-dead, ends-aborted, assists, in-place: one a line
//	-- policy --     wave NAME N[%] SOAK [approval] [prefer:ZONE] [cover] [oneAtATime], by zones;
//	                 failures N[%]; startWithin DURATION; restarts N; removals N[%]; back;
//	                 window FROM TO: minutes after midnight, of every day
//	-- revisions --  NAME BEHAVIOUR [POOL|POOL...[+]]: where its template lets pods run; * is anywhere,
//	                 and + tolerates every taint
//	-- nodes --      NAME [POOL] [taint:EFFECT] [zone:ZONE]; "-" is not a pool
//	-- events --     WHEN WHAT [WORD...]: see operations
//	-- expect --     COUNT =|<=|>= N, of creates, deletes, changes, forced, doubles, killed;
//	                updated: nodes with a current pod that is ready, before
//	                the cluster is healed; phase = PHASE: of the release then
func Parse(text string) (*Scenario, error) {
	sc := &Scenario{Revisions: map[string]Behaviour{}, Places: map[string]string{}}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := sectionName(line); ok {
			section = name
			continue
		}
		words := strings.Fields(line)
		if section == "" {
			sc.Comment += line + "\n"
		} else if len(words) > 0 {
			if err := sc.parseLine(section, words); err != nil {
				return nil, fmt.Errorf("sim: section %s, %q: %w", section, line, err)
			}
		}
	}
	slices.SortStableFunc(sc.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	if len(sc.Revisions) == 0 {
		return nil, fmt.Errorf("sim: no revision: the DaemonSet needs one to begin with")
	}
	return sc, nil
}

func sectionName(line string) (string, bool) {
	name, ok := strings.CutPrefix(line, "-- ")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, " --")
}

func (sc *Scenario) parseLine(section string, words []string) (err error) {
	switch section {
	case "seed":
		sc.Seed, err = strconv.ParseUint(words[0], 10, 64)
	case "set":
		err = sc.Set.parse(words)
	case "cluster":
		flag := map[string]*bool{"finalizers": &sc.Finalizers, "taint-not-ready": &sc.TaintNotReady, "keep-dead": &sc.KeepDead, "ends-aborted": &sc.EndsAborted, "assists": &sc.Assists, "in-place": &sc.InPlace}[words[0]]
		if flag == nil {
			return fmt.Errorf("unknown word")
		}
		*flag = true
	case "revisions":
		if len(words) != 2 && len(words) != 3 {
			return fmt.Errorf("want a name, a behaviour, and perhaps pools")
		}
		if len(words) == 3 {
			sc.Places[words[0]] = words[2]
		}
		sc.Revisions[words[0]] = Behaviour(words[1])
		if !slices.Contains([]Behaviour{Good, Slow, Never, Fails, Flaps, Kills, Lingers, Sours}, Behaviour(words[1])) {
			err = fmt.Errorf("unknown behaviour")
		}
	case "policy":
		err = sc.parsePolicy(words)
	case "nodes":
		var n Node
		n, err = parseNode(words)
		sc.Nodes = append(sc.Nodes, n)
	case "events":
		var e Event
		e, err = parseEvent(words)
		sc.Events = append(sc.Events, e)
	case "expect":
		if !expectation.MatchString(strings.Join(words, " ")) {
			err = fmt.Errorf("want COUNT =|<=|>= N")
		}
		sc.Expect = append(sc.Expect, strings.Join(words, " "))
	default:
		err = fmt.Errorf("unknown section")
	}
	return err
}

var expectation = regexp.MustCompile(`^((creates|deletes|changes|forced|doubles|killed|updated) (=|<=|>=) \d+|phase = \w+)$`)

func (s *Set) parse(words []string) (err error) {
	if len(words) != 2 {
		return fmt.Errorf("want a setting and its value")
	}
	switch value := words[1]; words[0] {
	case "strategy":
		s.OnDelete = value == "OnDelete"
	case "maxUnavailable":
		s.MaxUnavailable, err = value, checkAmount(value)
	case "maxSurge":
		s.MaxSurge, err = value, checkAmount(value)
	case "minReady":
		s.MinReady, err = time.ParseDuration(value)
	case "pool":
		s.Pool = value
	case "tolerate":
		s.Tolerate = true
	case "scheduled":
		s.Scheduled = true
	default:
		err = fmt.Errorf("unknown setting")
	}
	return err
}

func checkAmount(s string) error {
	_, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	return err
}

func parseNode(words []string) (n Node, err error) {
	n.Name = words[0]
	for _, w := range words[1:] {
		if zone, ok := strings.CutPrefix(w, "zone:"); ok {
			n.Zone = zone
		} else if effect, ok := strings.CutPrefix(w, "taint:"); !ok {
			n.Pool = strings.Trim(w, "-")
		} else if effects[effect] == plan.AnyEffect {
			return n, fmt.Errorf("unknown effect %q", effect)
		} else {
			n.Taints = append(n.Taints, plan.Taint{Key: "k", Effect: effects[effect]})
		}
	}
	return n, nil
}

func parseEvent(words []string) (e Event, err error) {
	if len(words) < 2 {
		return e, fmt.Errorf("want a time and an operation")
	}
	if e.At, err = time.ParseDuration(words[0]); err != nil {
		return e, err
	}
	e.Op, e.Args = words[1], words[2:]
	least, known := operations[e.Op]
	if !known {
		return e, fmt.Errorf("unknown operation")
	}
	if len(e.Args) < least {
		return e, fmt.Errorf("want %d more words", least)
	}
	return e, e.checkWords()
}

// checkWords makes sure that happen can read the words.
func (e *Event) checkWords() (err error) {
	known := true
	switch e.Op {
	case "set":
		if e.Args[0] != "strategy" && e.Args[0] != "minReady" {
			err = checkAmount(e.Args[1])
		}
	case "taint":
		_, known = effects[e.Args[1]]
	case "engine":
		known = slices.Contains([]string{"old", "new"}, e.Args[0])
	case "prune":
		known = e.Args[0] == "waits" || e.Args[0] == "fails"
	case "crash":
		_, known = crashes[e.Args[0]]
	case "freeze", "overlap", "still":
		_, err = time.ParseDuration(e.Args[0])
	case "policy":
		switch _, is := rollout.ReasonOf(e.Args[1]); e.Args[0] {
		case "waves":
			_, err = waves(e.Args[1], nil)
		case "wrong":
			known = is || e.Args[1] == "-"
		}
	case "clock", "busy":
		_, err = time.ParseDuration(e.Args[1])
	case "stall":
		_, err = time.ParseDuration(e.Args[1])
		_, known = resourceNames[e.Args[0]]
	case "cut":
		_, known = resourceNames[e.Args[0]]
	}
	if !known {
		err = fmt.Errorf("unknown word in %v", e.Args)
	}
	return err
}

// String returns the scenario as Parse reads it.
func (sc *Scenario) String() string {
	var b strings.Builder
	b.WriteString(sc.Comment)
	fmt.Fprintf(&b, "-- seed --\n%d\n-- set --\n", sc.Seed)
	s := &sc.Set
	line := func(is bool, text string, args ...any) {
		if is {
			fmt.Fprintf(&b, text+"\n", args...)
		}
	}
	line(s.OnDelete, "strategy OnDelete")
	line(s.MaxUnavailable != "", "maxUnavailable %s", s.MaxUnavailable)
	line(s.MaxSurge != "", "maxSurge %s", s.MaxSurge)
	line(s.MinReady > 0, "minReady %v", s.MinReady)
	line(s.Pool != "", "pool %s", s.Pool)
	line(s.Tolerate, "tolerate all")
	line(s.Scheduled, "scheduled yes")
	line(true, "-- cluster --")
	line(sc.Finalizers, "finalizers")
	line(sc.TaintNotReady, "taint-not-ready")
	line(sc.KeepDead, "keep-dead")
	line(sc.EndsAborted, "ends-aborted")
	line(sc.Assists, "assists")
	line(sc.InPlace, "in-place")
	b.WriteString(policyText(sc.Policy))
	line(true, "-- revisions --")
	for _, r := range slices.Sorted(maps.Keys(sc.Revisions)) {
		line(true, "%s", strings.TrimSpace(fmt.Sprintf("%s %s %s", r, sc.Revisions[r], sc.Places[r])))
	}
	line(true, "-- nodes --")
	for _, n := range sc.Nodes {
		b.WriteString(n.Name + " " + cmp.Or(n.Pool, "-"))
		for _, t := range n.Taints {
			b.WriteString(" taint:" + t.Effect.String())
		}
		if n.Zone != "" {
			b.WriteString(" zone:" + n.Zone)
		}
		b.WriteString("\n")
	}
	line(true, "-- events --")
	for _, e := range sc.Events {
		line(true, "%s", e)
	}
	line(len(sc.Expect) > 0, "-- expect --\n%s", strings.Join(sc.Expect, "\n"))
	return b.String()
}
