package verbs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// What a verb asks for in each state, or why it asks for nothing.
func TestRolloutVerbs(t *testing.T) {
	p := rollout.Default()
	p.Waves[0].Approval = true
	under := rollout.State{Stable: "a", Target: "b", Release: 3, Phase: rollout.Soaking, Reason: rollout.NotSoaked, Wave: "first", Quota: 1, Stops: 2}
	with := func(change func(*rollout.State)) rollout.State {
		s := under
		change(&s)
		return s
	}
	back := with(func(s *rollout.State) { s.Back, s.Phase = true, rollout.RollingBack })
	aborted := with(func(s *rollout.State) { s.Back, s.Phase = true, rollout.Aborted })
	unsure := with(func(s *rollout.State) { s.Stopped, s.Unsure, s.Phase, s.Wave = true, true, rollout.Held, "" })
	tenth := with(func(s *rollout.State) { s.Wave = "tenth" })
	noneWell := with(func(s *rollout.State) { s.Wave, s.Phase, s.Reason = "tenth", rollout.Rolling, rollout.NoneWell })
	reverting := with(func(s *rollout.State) { s.Target, s.Reverting, s.Phase = "a", true, rollout.RollingBack })
	none := with(func(s *rollout.State) { s.Phase, s.Reason, s.Wave = rollout.Held, rollout.PolicyGone, "" })
	gone := with(func(s *rollout.State) { s.Phase, s.Reason, s.Wave = rollout.Held, rollout.StableGone, "" })
	for _, c := range []struct {
		verb  string
		state rollout.State
		want  string // what is written, or the text that says why not
	}{
		{"promote", under, `{"promote":{"all":null,"release":3,"wave":"first"}}`},
		{"promote first", under, `{"promote":{"all":null,"release":3,"wave":"first"}}`},
		{"promote tenth", under, "wave tenth is not open; the open one is first"},
		{"promote", tenth, "asks for no approval"},
		{"promote", noneWell, `{"promote":{"all":null,"release":3,"wave":"tenth"}}`},
		{"promote", back, "was taken back; `everynode rollout retry` begins again"},
		{"promote", none, "no wave is open: release 3 of b is in phase Held"},
		{"promote", reverting, "there is nothing to promote"},
		{"resume", unsure, `{"resume":{"release":3,"stop":2}}`},
		{"resume", aborted, "was taken back, and does not go on"},
		{"resume", under, "there is nothing to resume: release 3 of b is in phase Soaking"},
		{"abort", unsure, `{"abort":3,"promote":null,"resume":null}`},
		{"abort", none, `{"abort":3,"promote":null,"resume":null}`},
		{"abort", gone, "no node can go back: the stable revision a no longer exists. To give all nodes b: everynode rollout plain"},
		{"abort", back, "was taken back already"},
		{"undo", reverting, "nodes go back to a already"},
		{"retry", aborted, `{"retry":3}`},
		{"retry", back, `{"retry":3}`},
		{"retry", under, "retry is for a release that was taken back"},
		{"retry", reverting, "there is nothing to begin again with"},
		{"plain", none, `{"plain":3}`},
		{"plain", reverting, "there is nothing to end"},
		{"pause", reverting, `{"paused":true}`},
	} {
		r := &release{state: c.state, policy: &p}
		words := strings.Fields(c.verb)
		if got := asked(r, words[0], words[1:]); got != c.want && (strings.HasPrefix(c.want, "{") || !strings.Contains(got, c.want)) {
			t.Errorf("%s in %+v: %s, want %s", c.verb, c.state, got, c.want)
		}
	}
	r := &release{DaemonSetRollout: view.DaemonSetRollout{Spec: view.DaemonSetRolloutSpec{Paused: true}}, state: with(func(s *rollout.State) { s.Stopped = true })}
	if got := asked(r, "resume", nil); got != `{"paused":null,"resume":{"release":3,"stop":2}}` {
		t.Errorf("paused and stopped: %s", got)
	}
	if got := asked(&release{state: tenth}, "promote", nil); !strings.HasPrefix(got, "{") {
		t.Errorf("a policy that cannot be read keeps nobody from promoting: %s", got)
	}
}

// What may be removed, and what may not.
func TestRolloutAllow(t *testing.T) {
	before := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		held, nodes int
		want        string
	}{
		{0, 0, "there is nothing to allow"},
		{3, 0, `{"allowRemovals":{"before":"2026-11-28T10:00:00Z","nodes":3}}`},
		{3, 2, "lets all of them go or none"},
		{3, 5, `{"allowRemovals":{"before":"2026-11-28T10:00:00Z","nodes":5}}`},
		{0, 5, `{"allowRemovals":{"before":"2026-11-28T10:00:00Z","nodes":5}}`},
	} {
		r := &release{}
		if c.held > 0 {
			r.Status.Guard = &view.RolloutGuardStatus{Held: c.held}
		}
		q, err := r.allow(c.nodes, before)
		got := fmt.Sprint(err)
		if err == nil {
			got = written(q)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%d of %d: %s, want %s", c.nodes, c.held, got, c.want)
		}
	}
	r := &release{state: rollout.State{Stable: "a", Target: "a"}}
	r.Name, r.Namespace, r.Status.Guard = "agent", "apps", &view.RolloutGuardStatus{Held: 3}
	if got := fmt.Sprint(r.exit(), (releaseText{release: r}).next()); got != fmt.Sprint(console.ExitStatus(exitRolloutStands), []string{"everynode rollout allow ds/agent -n apps"}) {
		t.Errorf("held pods: %s", got)
	}
}

// Which commands are suggested in states that do not end by themselves.
func TestRolloutNext(t *testing.T) {
	for reason, want := range map[rollout.Reason]string{
		rollout.PolicyGone: "abort plain", rollout.PolicyUnreadable: "abort plain", rollout.SeveralPolicies: "abort plain",
		rollout.StableGone: "plain", rollout.ClockSkew: "abort", rollout.ViewIncomplete: "",
	} {
		r := &release{state: rollout.State{Stable: "a", Target: "b", Release: 3, Phase: rollout.Held, Reason: reason}}
		r.Name, r.Namespace = "agent", "apps"
		var got []string
		for _, line := range (releaseText{release: r}).next() {
			verb, of, _ := strings.Cut(strings.TrimPrefix(line, "everynode rollout "), " ")
			if got = append(got, verb); of != "ds/agent -n apps" {
				t.Errorf("%s: %q", reason, line)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", reason, got, want)
		}
		r.state.Stable = "b"
		if got := (releaseText{release: r}).next(); len(got) > 0 {
			t.Errorf("%s with no release under way: %s", reason, got)
		}
	}
}

func asked(r *release, verb string, words []string) string {
	for _, v := range rolloutVerbs() {
		if name, _, _ := strings.Cut(v.use, " "); name != verb {
			continue
		}
		q, err := v.decide(r, words, false)
		if err != nil {
			return err.Error()
		}
		if q.spec == nil {
			return q.said
		}
		return written(q)
	}
	return "there is no such verb"
}

func written(q request) string {
	data, err := json.Marshal(q.spec)
	if err != nil {
		panic(err) // the values are the test's own
	}
	return string(data)
}
