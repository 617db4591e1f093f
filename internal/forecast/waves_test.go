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
