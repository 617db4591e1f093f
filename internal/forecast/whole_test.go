package forecast

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// What waves make of a change: each node in its wave, but for what no wave holds back.
func TestWhole(t *testing.T) {
	without := func(in *Input, names ...string) { // pods of a and so on go
		before := in.Set
		before.Hash, in.Before = "old", &before
		in.Set.Placement.Selector = map[string]string{"stays": ""}
		for i := range in.Nodes {
			if n := &in.Nodes[i]; !strings.Contains(strings.Join(names, ""), n.Name) {
				n.Labels["stays"] = ""
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Input, *rollout.Policy)
		want   string
	}{
		{"two waves", func(*Input, *rollout.Policy) {}, `
			b replaced Outdated 0s-10s
			d replaced Outdated 1m10s-1m20s
			c replaced Outdated 1m20s-1m30s
			a replaced Outdated 1m30s-1m40s
			took 1m40s, down 1`},
		{"windows", func(_ *Input, p *rollout.Policy) {
			p.Windows = []rollout.Window{{From: 13 * 60, To: 13*60 + 1, Zone: time.UTC}}
		}, `
			b replaced Outdated 1h0m0s-1h0m10s
			d replaced Outdated 25h0m0s-25h0m10s
			c replaced Outdated 25h0m10s-25h0m20s
			a replaced Outdated 25h0m20s-25h0m30s
			took 25h0m30s, down 1`},
		{"pods that may go", func(in *Input, p *rollout.Policy) {
			without(in, "b", "d")
			p.Removals.Value = 50
		}, `
			b removed NotSelected 0s-2s
			c replaced Outdated 1m2s-1m12s
			d removed NotSelected 1m2s-1m4s
			a replaced Outdated 1m12s-1m22s
			took 1m22s, down 1`},
		{"the guard holds pods of the first wave", func(in *Input, _ *rollout.Policy) { without(in, "b", "d") }, `
			left a AwaitsWave
			left b HeldByGuard
			left c AwaitsWave
			left d HeldByGuard
			took 0s, down 0`},
		{"the guard holds pods of the second wave", func(in *Input, p *rollout.Policy) {
			without(in, "d", "c")
			p.Waves[1].Soak = time.Hour
		}, `
			b replaced Outdated 0s-10s
			a replaced Outdated 1m10s-1m20s
			left c HeldByGuard
			left d HeldByGuard
			took 1m20s, down 1`},
		{"the guard holds the pod of a node that is down, for which no wave waits", func(in *Input, p *rollout.Policy) {
			without(in, "b")
			in.Nodes[1].Ready, p.Removals = false, plan.Amount{}
		}, `
			d replaced Outdated 0s-10s
			c replaced Outdated 1m10s-1m20s
			a replaced Outdated 1m20s-1m30s
			left b HeldByGuard
			took 1m30s, down 1`},
		{"another controller removes and creates pods", func(in *Input, _ *rollout.Policy) {
			in.Assisted = true
			without(in, "a", "b")
			in.Before = nil       // see courseOf
			in.Pods = in.Pods[:3] // d has none
		}, `
			a removed NotSelected 0s-2s
			b removed NotSelected 0s-2s
			d new Missing 0s-8s
			c replaced Outdated 1m0s-1m10s
			took 1m10s, down 1`},
		{"a pod of a node that is gone", func(in *Input, _ *rollout.Policy) { in.Nodes = in.Nodes[1:] }, `
			a removed NodeGone 0s-0s
			b replaced Outdated 0s-10s
			d replaced Outdated 1m10s-1m20s
			c replaced Outdated 1m20s-1m30s
			took 1m30s, down 1`},
		{"no waves", func(in *Input, _ *rollout.Policy) { in.Pods = nil }, `
			a new Missing 0s-8s
			b new Missing 0s-8s
			c new Missing 0s-8s
			d new Missing 0s-8s
			took 8s, down 0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, p := fleet(4), rollout.Default()
			p.Waves = []rollout.Wave{{Name: "one", Nodes: plan.Amount{Value: 1}, Soak: time.Minute}, {Name: "all", Nodes: plan.Amount{Value: 100, Percent: true}}}
			c.change(in, &p)
			waves, _ := Waves(in, &p, "u")
			want := strings.ReplaceAll(strings.TrimLeft(c.want, "\n"), "\t", "") + "\n"
			if got := Whole(in, &p, waves).text(); got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// In waves the same becomes of each node as without them, if the guard lets all pods go: the waves only say when.
func TestWholeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, p := drawInput(t), rollout.Default()
		before := in.Set
		before.Hash, before.Placement, in.Before = "old", plan.Placement{}, &before
		p.Removals = plan.Amount{Value: 100, Percent: true}
		waves, _ := Waves(in, &p, rapid.StringMatching("[a-z]").Draw(t, "uid"))
		plain, whole := Play(in), Whole(in, &p, waves)
		if got, want := whole.changes(), plain.changes(); got != want || len(whole.Left) > 0 || whole.Endless {
			t.Fatalf("%s\nin waves:\n%s", plain.text(), whole.text())
		}
		if most, _ := in.Set.Budget(len(in.Nodes)); whole.MostDown > most {
			t.Fatalf("%d may be down:\n%s", most, whole.text())
		}
	})
}

// changes returns what becomes of each node.
func (f *Forecast) changes() string {
	all := map[string]Change{}
	for _, s := range f.Steps {
		all[s.Node] = s.Change
	}
	return fmt.Sprint(all)
}
