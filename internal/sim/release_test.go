package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// drawReleased draws a cluster with a policy, whose DaemonSet is released again and again.
func drawReleased(t *rapid.T) *Scenario {
	sc := &Scenario{
		Seed:          rapid.Uint64Range(0, 1<<32).Draw(t, "seed"),
		Set:           Set{MaxUnavailable: pick(t, "maxUnavailable", "1", "2", "3", "100%"), MinReady: pick(t, "minReady", 0, 0, 5*time.Second)},
		Policy:        drawPolicy(t),
		Finalizers:    rare(t, "finalizers"),
		TaintNotReady: rapid.Bool().Draw(t, "taintNotReady"),
		EndsAborted:   rapid.Bool().Draw(t, "endsAborted"),
		Revisions:     map[string]Behaviour{"a": Good},
	}
	if rare(t, "surge") {
		sc.Set.MaxUnavailable, sc.Set.MaxSurge = "0", pick(t, "maxSurge", "1", "2", "50%")
	}
	sc.Set.OnDelete = rare(t, "onDelete")
	if rapid.Bool().Draw(t, "selector") {
		sc.Set.Pool = "ssd"
	}
	sc.Places = map[string]string{}
	moves := rapid.Bool().Draw(t, "moves")
	for _, r := range []string{"b", "c", "d"} {
		if place := pick(t, "place", "", "", "ssd", "hdd", "*", "ssd|hdd", "sdd"); moves && place != "" {
			sc.Places[r] = place
		}
		sc.Revisions[r] = pick(t, "behaviour", Good, Good, Good, Slow, Never, Fails, Flaps, Kills, Sours)
	}
	for i := range pick(t, "nodes", 2, 3, 4, 5, 6, 8) {
		sc.Nodes = append(sc.Nodes, Node{Name: fmt.Sprintf("n%d", i), Pool: drawPool(t), Zone: pick(t, "zone", "", "x", "y")})
	}
	if rare(t, "dedicated") {
		sc.dedicate(t)
	}
	if rapid.Bool().Draw(t, "faulty") {
		sc.Events = append(sc.Events, withoutLate(drawFaults(t, 0)))
	}
	at := time.Duration(0)
	later := rapid.Custom(func(t *rapid.T) Event { return drawReleaseEvent(t, sc, drawPause(t)) })
	for _, e := range rapid.SliceOfN(later, pick(t, "atLeast", 3, 8, 15, 30), 40).Draw(t, "events") {
		at += e.At
		e.At = at
		sc.Events = append(sc.Events, e)
	}
	return sc
}

// dedicate taints some nodes, and lets some revisions tolerate that.
func (sc *Scenario) dedicate(t *rapid.T) {
	for i := range sc.Nodes {
		if rapid.Bool().Draw(t, "tainted") {
			sc.Nodes[i].Taints = []plan.Taint{{Key: "k", Effect: plan.NoExecute}}
		}
	}
	for _, r := range []string{"a", "b", "c", "d"} {
		if rapid.Bool().Draw(t, "tolerates") {
			sc.Places[r] = cmp.Or(sc.place(r), "*") + "+"
		}
	}
}

// withoutLate leaves out requests that take effect after their error: nothing is promised about those.
func withoutLate(e Event) Event {
	var args []string
	for _, a := range e.Args {
		if !strings.HasPrefix(a, "late=") {
			args = append(args, a)
		}
	}
	e.Args = args
	return e
}

func drawPolicy(t *rapid.T) *rollout.Policy {
	p := rollout.Default()
	p.Waves = nil
	add := func(w rollout.Wave) {
		w.Soak = pick(t, "soak", 0, 5*time.Second, 40*time.Second)
		switch pick(t, "picks", 0, 0, 0, 0, 0, 1, 2, 3) {
		case 1:
			w.Prefer = map[string]string{"zone": "y"}
		case 2:
			w.Cover = []string{"zone"}
		case 3:
			w.OneAtATime = "zone"
		}
		p.Waves = append(p.Waves, w)
	}
	for i, nodes := range [][]string{{"1"}, {"1", "2"}, {"1", "2", "50%"}}[pick(t, "waves", 0, 1, 2)] {
		add(rollout.Wave{Name: fmt.Sprintf("w%d", i), Nodes: amount(nodes), Approval: rare(t, "approval")})
	}
	add(rollout.Wave{Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}})
	const noon = 12 * 60 // when scenarios begin
	for _, w := range pick[[][2]int](t, "windows", nil, nil, nil, [][2]int{{noon, noon + 1}, {noon + 2, noon + 4}}) {
		p.Windows = append(p.Windows, rollout.Window{From: w[0], To: w[1], Zone: time.UTC})
	}
	p.Removals = amount(pick(t, "removals", "0", "1", "2", "100", "10%", "34%", "50%"))
	p.Failure = rollout.Failure{Nodes: plan.Amount{Value: pick(t, "failures", 0, 0, 1, 2)}, StartWithin: pick(t, "startWithin", 15*time.Second, time.Minute),
		Restarts: pick(t, "restarts", 1, 3), Back: rapid.Bool().Draw(t, "back")}
	return &p
}

// drawReleaseEvent draws an event that is about releases in half of the cases.
func drawReleaseEvent(t *rapid.T, sc *Scenario, at time.Duration) Event {
	if rapid.Bool().Draw(t, "other") {
		for {
			switch e := drawEvent(t, sc, at); e.Op {
			case "relabel", "ghost": // nobody can know what these do
			case "set":
				if !(e.Args[0] == "maxSurge" && sc.Set.MaxSurge == "") {
					return e
				}
			case "faults":
				return withoutLate(e)
			default:
				return e
			}
		}
	}
	e := Event{At: at, Op: pick(t, "release", "edit", "edit", "edit", "edit", "rollback", "pause", "promote", "promote", "abort", "retry", "resume", "resume", "policy", "unpolicy", "plain", "restart", "permit", "pool", "pool", "nothing", "nothing", "prune", "policy", "zone", "forget", "drain", "drain", "undrain")}
	switch e.Op {
	case "nothing":
		e.At += pick(t, "long", 0, 0, 0, 25*time.Minute, 61*time.Minute)
	case "edit":
		e.Args = []string{pick(t, "revision", "a", "b", "c", "d")}
	case "pause":
		e.Args = []string{pick(t, "paused", "yes", "no")}
	case "permit":
		e.Args = []string{pick(t, "permitted", "1", "3", "10"), pick(t, "for", "5s", "1h")}
	case "pool":
		e.Args = []string{pick(t, "pool", "ssd", "ssd", "hdd")}
	case "prune":
		e.Args = []string{pick(t, "how", "waits", "fails")}
	case "promote":
		e.Args = []string{pick(t, "wave", "w0", "w1", "all", "*")}
	case "policy":
		what := pick(t, "what", "failures", "soak", "startWithin", "back", "waves", "waves", "wrong", "wrong")
		e.Args = []string{what, map[string]string{"failures": pick(t, "failures", "0", "2"), "soak": pick(t, "soak", "0s", "30s"), "startWithin": pick(t, "startWithin", "10s", "2m"), "back": pick(t, "back", "yes", "no"),
			"waves": pick(t, "waves", "w0=1,w1=2,w2=50%", "w0=1", "w0=2,w1=3", "x=1,w1=50%", "w1=1,x=2", "-"), "wrong": pick(t, "wrong", "-", "PolicyUnreadable", "SeveralPolicies")}[what]}
	case "drain", "undrain":
		e.Args = []string{fmt.Sprintf("n%d", pick(t, "node", 0, 1, 2, 3))}
	case "zone":
		e.Args = []string{fmt.Sprintf("n%d", pick(t, "node", 0, 1, 2, 3)), pick(t, "zone", "x", "y")}
	}
	if slices.Contains([]string{"promote", "abort", "retry", "resume", "plain"}, e.Op) {
		if of := pick(t, "of", "", "", "", "", "", "-1", "+1", "+1"); of != "" { // another release
			e.Args = append(e.Args, of)
		}
	}
	return e
}

// Whatever happens in releases, no more nodes have the target than the quota, and in the end all have what
// people have asked for. A failure prints the scenario and rapid's seed.
func TestReleases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawReleased(t)
		if err := Run(sc); err != nil {
			t.Fatalf("%v\n%s", err, sc)
		}
	})
}
