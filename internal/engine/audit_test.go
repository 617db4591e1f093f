package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"everynode/internal/plan"
)

// audit compares a decision to what plan.Make decides for the whole snapshot. So every
// test of this package that runs an engine is also a test of this.
func (c *cluster) audit(e *engine, set *setEntry, st *state) {
	in := plan.Input{Now: st.now, Set: set.spec, Gone: map[string]bool{}, Backoff: map[string]plan.Backoff{},
		Waits: map[string][]plan.Wait{}, Left: map[string]bool{}, Release: st.course.release, Guard: st.course.removals.Guard(), Reached: map[string]int{}, Refused: map[string]plan.Refusal{}}
	in.Set.Hash, in.Set.InPlace = st.hash, st.inPlace.target
	st.course.specify(&in.Set)
	names, _ := snapshot(e.index, string(set.ds.UID))
	e.apply.underway(identityOf(set.ds), func(l *lane, altering map[string]*write) {
		e.index.look(string(set.ds.UID), names, func(s *plan.Sight) {
			overlay(s, l.startedOn(s.Name), altering, st.now)
			st.tellNewer(s)
			if s.Node != nil {
				in.Nodes = append(in.Nodes, *s.Node)
			}
			for _, p := range s.Pods {
				in.Pods = append(in.Pods, *p)
			}
			in.Gone[s.Name], in.Backoff[s.Name] = s.Gone, st.backoffOf(s.Name, st.now)
			in.Waits[s.Name], in.Left[s.Name], in.Reached[s.Name] = st.waitsOf(s.Name, st.now), s.Left, st.reachedWith(s.Name, st.hash)
			in.Refused[s.Name] = st.refusal(s.Name).known()
		})
	})
	if _, changed := snapshot(e.index, string(set.ds.UID)); changed {
		return // while we looked: a new decision follows at once
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.audits++
	var want plan.Plan
	plan.Make(&in, &want)
	got := plan.Plan{Status: st.ledger.Status(), Exposure: st.ledger.Totals().Exposure, Guarded: st.ledger.Totals().Guarded, WakeAt: st.ledger.WakeAt()}
	for i := range want.Verdicts {
		if v := st.ledger.Verdict(want.Verdicts[i].Node); v != nil {
			got.Creates, got.Deletes, got.Changes = append(got.Creates, v.Creates()...), append(got.Deletes, v.Deletes()...), append(got.Changes, v.Changes()...)
		}
	}
	want.Verdicts = nil
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(plan.Plan{}), cmpopts.EquateEmpty()); diff != "" {
		c.t.Errorf("the ledger is not what the whole gives (-Make +Ledger):\n%s", diff)
	}
}

// snapshot returns the nodes that concern a DaemonSet, and whether something has
// changed there since they were looked at.
func snapshot(ix *index, owner string) (names []string, changed bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for name := range ix.nodes {
		names = append(names, name)
	}
	o := ix.owned[owner]
	if o == nil {
		return names, true
	}
	for name := range o.first {
		if ix.nodes[name] == nil {
			names = append(names, name)
		}
	}
	return names, len(o.marked) > 0
}

// The audit does compare decisions.
func TestAuditSeesDecisions(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		c.covered(5, "agent:2")
		if c.audits < 20 {
			t.Errorf("%d decisions were compared", c.audits)
		}
	})
}
