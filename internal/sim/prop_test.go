package sim

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
)

// drawScenario draws a cluster of a few nodes to which many things happen.
func drawScenario(t *rapid.T) *Scenario {
	sc := &Scenario{
		Seed:          rapid.Uint64Range(0, 1<<32).Draw(t, "seed"),
		Set:           drawSet(t),
		Finalizers:    rare(t, "finalizers"),
		TaintNotReady: rapid.Bool().Draw(t, "taintNotReady"),
		KeepDead:      rare(t, "keepDead"),
		Revisions:     map[string]Behaviour{"a": Good},
	}
	for _, r := range []string{"b", "c", "d"} {
		sc.Revisions[r] = pick(t, "behaviour", Good, Good, Good, Lingers, Slow, Never, Fails, Flaps, Kills)
	}
	for i := range pick(t, "nodes", 1, 2, 3, 4, 5, 6, 8) {
		n := Node{Name: fmt.Sprintf("n%d", i), Pool: drawPool(t)}
		if rare(t, "tainted") {
			n.Taints = []plan.Taint{{Key: "k", Effect: pick(t, "effect", plan.NoSchedule, plan.NoExecute)}}
		}
		sc.Nodes = append(sc.Nodes, n)
	}
	at := time.Duration(0)
	if rapid.Bool().Draw(t, "clocks") {
		for _, whose := range []string{"api", "nodes", "engine", "n0", "n1", "n2", "n3"} {
			sc.Events = append(sc.Events, Event{Op: "clock", Args: []string{whose, drawClock(t)}})
		}
	}
	if rapid.Bool().Draw(t, "faulty") {
		sc.Events = append(sc.Events, drawFaults(t, at))
	}
	later := rapid.Custom(func(t *rapid.T) Event { return drawEvent(t, sc, drawPause(t)) })
	for _, e := range rapid.SliceOfN(later, pick(t, "atLeast", 0, 5, 15, 30), 40).Draw(t, "events") {
		at += e.At
		e.At = at
		sc.Events = append(sc.Events, e)
	}
	return sc
}

// pick draws one of words, all equally likely. rapid's own generators prefer what is
// small. It shrinks to the first word.
func pick[T any](t *rapid.T, label string, words ...T) T {
	n := 0
	for room := 1; room < 4*len(words); room *= 2 {
		n *= 2
		if rapid.Bool().Draw(t, label) {
			n++
		}
	}
	return words[n%len(words)]
}

func rare(t *rapid.T, label string) bool { return pick(t, label, 0, 1, 2, 3, 4) == 4 }

func drawSet(t *rapid.T) Set {
	s := Set{
		OnDelete:       pick(t, "onDelete", 0, 1, 2, 3, 4, 5, 6) == 6,
		MaxUnavailable: pick(t, "maxUnavailable", "1", "2", "3", "34%", "100%", "0"),
		MinReady:       pick(t, "minReady", 0, 0, 5*time.Second, 30*time.Second),
		Tolerate:       rare(t, "tolerate"),
		Scheduled:      rare(t, "scheduled"),
	}
	if pick(t, "surge", 0, 1, 2) == 2 {
		s.MaxSurge = pick(t, "maxSurge", "1", "2", "50%")
		s.MaxUnavailable = "0"
	}
	if rapid.Bool().Draw(t, "selector") {
		s.Pool = "ssd"
	}
	return s
}

// drawClock draws how far a clock is ahead of the true time. No two are more than ten
// minutes apart.
func drawClock(t *rapid.T) string {
	return (time.Duration(pick(t, "clock", 0, -300, 300, -5, 5, -30, 30, -120)) * time.Second).String()
}

func drawPool(t *rapid.T) string {
	return pick(t, "pool", "ssd", "ssd", "ssd", "hdd")
}

// drawPause draws a time that is as often short as long.
func drawPause(t *rapid.T) time.Duration {
	most := pick(t, "scale", 20, 500, 5000, 40000)
	return time.Duration(rapid.IntRange(0, most).Draw(t, "pause")) * time.Millisecond
}

func drawFaults(t *rapid.T, at time.Duration) Event {
	percent := func(label string) int { return pick(t, label, 0, 0, 5, 20, 60) }
	e := Event{At: at, Op: "faults", Args: []string{
		fmt.Sprintf("lost=%d", percent("lost")), fmt.Sprintf("throttled=%d", percent("throttled")),
		fmt.Sprintf("latency=%dms", pick(t, "latency", 20, 500, 3000)),
		fmt.Sprintf("lag=%dms", pick(t, "lag", 20, 500, 5000, 20000)),
	}}
	if n := pick(t, "slow", 0, 0, 0, 10, 50); n > 0 {
		e.Args = append(e.Args, fmt.Sprintf("slow=%d", n))
	}
	if n := pick(t, "late", 0, 0, 0, 0, 0, 0, 5, 20); n > 0 {
		e.Args = append(e.Args, fmt.Sprintf("late=%d", n))
	}
	return e
}

// kinds repeats each kind of event as often as it should be drawn.
var kinds = func() (all []string) {
	for op, n := range map[string]int{
		"edit": 8, "rollback": 2, "set": 2, "join": 2, "leave": 2, "vanish": 1, "break": 3, "mend": 3, "label": 2, "taint": 2, "untaint": 2,
		"full": 1, "misfit": 1, "forbid": 1, "room": 2, "schedule": 1, "delete": 2, "force": 1, "fail": 2, "unready": 2, "ready": 1, "quota": 1, "ban": 1, "choke": 1, "allow": 1,
		"stall": 3, "cut": 3, "ghost": 1, "crash": 3, "freeze": 2, "overlap": 1, "restart": 1, "faults": 2, "relabel": 1, "cordon": 1,
		"evict": 1, "spare": 1, "clock": 3, "guard": 2, "unguard": 1, "busy": 1,
	} {
		for range n {
			all = append(all, op)
		}
	}
	return sorted(all)
}()

func drawEvent(t *rapid.T, sc *Scenario, at time.Duration) Event {
	op := pick(t, "kind", kinds...)
	e := Event{At: at, Op: op}
	node := func() string { return fmt.Sprintf("n%d", pick(t, "node", 0, 1, 2, 3, 4)%(len(sc.Nodes)+1)) }
	one := func(words ...string) string { return pick(t, "word", words...) }
	long := func() string { return (time.Duration(rapid.IntRange(1, 40).Draw(t, "long")) * time.Second).String() }
	switch op {
	case "edit":
		e.Args = []string{one("a", "b", "c", "d")}
	case "set":
		key := one("maxUnavailable", "maxSurge", "minReady", "strategy")
		e.Args = []string{key, map[string]string{
			"maxUnavailable": one("1", "2", "50%"), "maxSurge": one("0", "1", "50%"),
			"minReady": one("0s", "3s", "20s"), "strategy": one("RollingUpdate", "OnDelete"),
		}[key]}
	case "join":
		e.Args = []string{node(), drawPool(t)}
	case "label":
		e.Args = []string{node(), drawPool(t)}
	case "taint":
		e.Args = []string{node(), one("NoSchedule", "NoExecute", "PreferNoSchedule")}
	case "quota":
		e.Args = []string{one("off", "1", "3")}
	case "stall":
		e.Args = []string{one("sets", "nodes", "pods"), long()}
	case "cut":
		e.Args = []string{one("sets", "nodes", "pods"), one("resume", "anew")}
	case "crash":
		e.Args = []string{one("before", "during", "after")}
	case "freeze", "overlap":
		e.Args = []string{long()}
	case "clock":
		e.Args = []string{one("api", "nodes", "engine", "n0", "n1", "n2"), drawClock(t)}
	case "busy":
		e.Args = []string{node(), long()}
	case "faults":
		return drawFaults(t, at)
	case "schedule":
		e.Args = []string{one("no", "yes")}
	case "restart", "rollback":
	default:
		e.Args = []string{node()}
	}
	return e
}

// Whatever happens, the invariants hold, and in the end every node has what it should
// have. A failure prints the scenario, shrunk as far as possible: put it into testdata
// to keep it.
func TestProp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawScenario(t)
		if err := Run(sc); err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
	})
}
