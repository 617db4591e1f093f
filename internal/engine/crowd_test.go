package engine

import (
	"sync/atomic"
	"testing"
	"time"
)

// While many writes of a DaemonSet are under way, their results are decided on
// together; while few are, each at once.
func TestCrowdIsDecidedTogether(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var decisions, under atomic.Int32 // under: decisions while a crowd was writing
		writes := 0
		c.slowDown(func(r request) time.Duration {
			if !r.is("create", "pods") {
				return 0
			}
			writes++
			return 100*time.Millisecond + time.Duration(writes)*time.Millisecond // so that answers come one by one
		})
		const nodes = 300
		c.addNodes(nodes)
		c.addSet()
		began := time.Now()
		c.start(func(cfg *Config) {
			audit := cfg.decided
			cfg.decided = func(e *engine, set *setEntry, st *state) {
				decisions.Add(1)
				if e.apply.busy(identityOf(set.ds)) >= crowd {
					under.Add(1)
				}
				audit(e, set, st)
			}
		})
		for len(c.pods()) < nodes {
			c.run(10 * time.Millisecond)
		}
		took := time.Since(began)
		if most := int32(took/crowdRest) + 1; under.Load() > most {
			t.Errorf("%d decisions in %s while many writes were under way, at most %d are called for", under.Load(), took, most)
		}
		if under.Load() < 10 {
			t.Errorf("only %d of %d decisions were made while many writes were under way: this tells nothing", under.Load(), decisions.Load())
		}
	})
}
