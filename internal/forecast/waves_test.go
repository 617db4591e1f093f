package forecast

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

func (w *Wave) text(now time.Time) string {
	return fmt.Sprintf("%s/%s %s to %d, %d at a time, stops at %d, %s-%s works %s %v", w.Name, w.Group, strings.Join(w.Nodes, ""), w.Total,
		w.AtATime, w.StopsAt, w.Opens.Sub(now), w.Ends.Sub(now), w.Works, w.Uncovered)
}

func TestWaves(t *testing.T) {
	percent := func(n int) plan.Amount { return plan.Amount{Value: n, Percent: true} }
	three := func(in *Input, p *rollout.Policy) {
		p.Waves = []rollout.Wave{{Name: "one", Nodes: plan.Amount{Value: 1}, Soak: time.Minute, Approval: true, Cover: []string{"half"}},
			{Name: "half", Nodes: percent(50), Soak: time.Minute}, {Name: "all", Nodes: percent(100), OneAtATime: "half"}}
		for i := range in.Nodes {
			in.Nodes[i].Labels["half"] = []string{"x", "y"}[i%2]
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Input, *rollout.Policy)
		want   string
	}{
		{"three waves, the last in groups", three, `
			one/ f to 1, 1 at a time, stops at 1, 0s-1m10s works 10s [x]
			half/ ba to 3, 1 at a time, stops at 1, 1m10s-2m30s works 20s []
			all/x ce to 5, 1 at a time, stops at 1, 2m30s-2m50s works 20s []
			all/y d to 6, 1 at a time, stops at 1, 2m50s-3m0s works 10s []`},
		{"a budget in percent is of all nodes", func(in *Input, p *rollout.Policy) {
			in.Set.MaxUnavailable = percent(50)
			p.Waves, p.Failure.Nodes = p.Waves[1:], plan.Amount{Value: 2}
			p.Waves[0].Nodes = percent(50)
		}, `
			tenth/ fba to 3, 3 at a time, stops at 3, 0s-10m10s works 10s []
			all/ cde to 6, 3 at a time, stops at 3, 10m10s-20m20s works 10s []`},
		{"windows", func(in *Input, p *rollout.Policy) {
			three(in, p)
			p.Waves[2].OneAtATime = ""
			p.Windows = []rollout.Window{{From: 13 * 60, To: 13*60 + 2, Zone: time.UTC}}
		}, `
			one/ f to 1, 1 at a time, stops at 1, 1h0m0s-1h1m10s works 10s [x]
			half/ ba to 3, 1 at a time, stops at 1, 1h1m10s-1h2m30s works 20s []
			all/ cde to 6, 1 at a time, stops at 1, 25h0m0s-25h0m30s works 30s []`},
		{"a window that closes in the middle", func(in *Input, p *rollout.Policy) {
			p.Waves = p.Waves[2:]
			in.Start = 58 * time.Second // six minutes in all
			p.Windows = []rollout.Window{{From: 12 * 60, To: 12*60 + 2, Zone: time.UTC}}
		}, `
			all/ fbacde to 6, 1 at a time, stops at 1, 0s-48h12m0s works 6m0s []`},
		{"nodes that get no pod are in no wave", func(in *Input, p *rollout.Policy) {
			in.Set.Placement.Selector = map[string]string{"name": "b"}
		}, `
			first/ b to 1, 1 at a time, stops at 1, 0s-10m10s works 10s []
			tenth/  to 1, 0 at a time, stops at 1, 10m10s-20m10s works 0s []
			all/  to 1, 0 at a time, stops at 1, 20m10s-30m10s works 0s []`},
		{"nodes that lose their pod, or are new to it, are in waves", func(in *Input, p *rollout.Policy) {
			before := in.Set
			before.Hash, before.Placement.Selector = "old", map[string]string{"before": ""}
			in.Before, in.Set.Placement.Selector = &before, map[string]string{"after": ""}
			for i := range in.Nodes { // a and b lose it, c and d keep it, e and f are new
				for label, is := range map[string]bool{"before": i < 4, "after": i > 1} {
					if is {
						in.Nodes[i].Labels[label] = ""
					}
				}
			}
			in.Pods = in.Pods[:4]
			p.Waves[1].Nodes = percent(50)
			p.Removals = percent(50)
		}, `
			first/ f to 1, 1 at a time, stops at 1, 0s-10m8s works 8s []
			tenth/ ba to 3, 1 at a time, stops at 1, 10m8s-20m10s works 2s []
			all/ cde to 6, 1 at a time, stops at 1, 20m10s-30m38s works 28s []`},
		{"all nodes lose their pod", func(in *Input, p *rollout.Policy) {
			before := in.Set
			before.Hash, in.Before = "old", &before
			in.Set.Placement.Selector = map[string]string{"no": "node"}
			p.Removals, p.Waves = percent(100), p.Waves[1:]
		}, `
			tenth/ f to 1, 1 at a time, stops at 1, 0s-10m2s works 2s []
			all/ bacde to 6, 1 at a time, stops at 1, 10m2s-20m4s works 2s []`},
		{"a budget in percent is of those that should have a pod by then", func(in *Input, p *rollout.Policy) {
			before := in.Set
			before.Hash, before.Placement.Selector, in.Before = "old", map[string]string{"name": "f"}, &before
			in.Pods = in.Pods[5:]
			in.Set.MaxUnavailable = percent(50)
			p.Failure.Nodes, p.Waves = plan.Amount{Value: 9}, p.Waves[1:]
			p.Waves[0].Nodes = percent(50)
		}, `
			tenth/ fba to 3, 2 at a time, stops at 2, 0s-10m18s works 18s []
			all/ cde to 6, 3 at a time, stops at 3, 10m18s-20m26s works 8s []`},
		{"a node that is being emptied comes last", func(in *Input, p *rollout.Policy) {
			in.Nodes[5].Leaving = true
			p.Waves = []rollout.Wave{{Name: "five", Nodes: plan.Amount{Value: 5}}, p.Waves[2]}
		}, `
			five/ bacde to 5, 1 at a time, stops at 1, 0s-50s works 50s []
			all/ f to 6, 1 at a time, stops at 1, 50s-10m50s works 0s []`},
		{"nothing to lose", func(in *Input, p *rollout.Policy) { in.Pods = nil }, "none: the DaemonSet has no pod yet, so there is nothing to lose"},
		{"no node", func(in *Input, p *rollout.Policy) { in.Set.Placement.Selector = map[string]string{"no": "node"} }, "none: no node would have a pod after this change"},
		{"the same template", func(in *Input, p *rollout.Policy) { in.Set.Hash = "old" }, "none: every pod already has this template"},
		{"OnDelete, which a policy lets wait for nobody", func(in *Input, p *rollout.Policy) {
			in.Set.Strategy = plan.OnDelete
			p.Waves = p.Waves[2:]
		}, `
			all/ fbacde to 6, 1 at a time, stops at 1, 0s-11m0s works 1m0s []`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, p := fleet(6), rollout.Default()
			c.change(in, &p)
			if wrong := p.Check(); wrong != nil {
				t.Fatal(wrong)
			}
			var got []string
			waves, why := Waves(in, &p, "uid")
			for _, w := range waves {
				got = append(got, w.text(in.Now))
			}
			if why != "" {
				got = append(got, "none: "+why)
			}
			want := strings.ReplaceAll(strings.TrimSpace(c.want), "\t", "")
			if text := strings.Join(got, "\n"); text != want {
				t.Errorf("got:\n%s\nwant:\n%s", text, want)
			}
		})
	}
}
