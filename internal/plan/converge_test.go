package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// cluster carries out plans, tick by tick: pods that were created become ready if their
// revision is good, pods that were deleted vanish, in an order and with delays that the
// test draws. Nothing happens on dead nodes.
type cluster struct {
	in   Input
	plan Plan
	made int
	seen Moment // the last one
	dead map[string]bool
	// fate is what happens to the pods of a revision: "" they are good, "hangs" they
	// never become ready, "fails" they fail.
	fate map[string]string
}

func (c *cluster) step(t *rapid.T) {
	Make(&c.in, &c.plan)
	for _, d := range c.plan.Deletes {
		i := slices.IndexFunc(c.in.Pods, func(p Pod) bool { return p.Name == d.Pod })
		p := &c.in.Pods[i]
		p.Deleted, p.SeenDeleted = c.in.Now, c.moment()
		if p.Phase == Failed || p.Phase == Succeeded {
			c.in.Backoff[d.Node] = c.in.Backoff[d.Node].After(d, c.in.Now)
		}
	}
	for _, n := range c.plan.Creates {
		c.made++
		name := fmt.Sprintf("%s-%d", c.in.Set.Hash, c.made)
		c.in.Pods = append(c.in.Pods, Pod{Name: name, UID: name, Node: n.Node, Bound: true, Hash: c.in.Set.Hash,
			Created: c.in.Now, SeenCreated: c.moment()})
	}
	c.in.Now = c.in.Now.Add(time.Second)
	for i := range c.in.Pods {
		p := &c.in.Pods[i]
		if c.dead[p.Node] || !p.Deleted.IsZero() || p.Ready || c.dawdles(t, p.Created) {
			continue
		}
		switch c.fate[p.Hash] {
		case "":
			p.Phase, p.Ready, p.ReadySince = Running, true, c.in.Now
		case "fails":
			p.Phase = Failed
		}
	}
	c.in.Pods = slices.DeleteFunc(c.in.Pods, func(p Pod) bool {
		ended := p.Phase == Failed || p.Phase == Succeeded
		return !p.Deleted.IsZero() && (ended || !c.dead[p.Node] && !c.dawdles(t, p.Deleted))
	})
}

func (c *cluster) moment() Moment {
	c.seen++
	return c.seen
}

// dawdles reports whether what was requested at that time has not happened yet. Delays
// are bounded: they are at most three ticks, otherwise nothing could be said to settle.
func (c *cluster) dawdles(t *rapid.T, since time.Time) bool {
	return c.in.Now.Sub(since) < 3*time.Second && rapid.Bool().Draw(t, "dawdles")
}

// serving counts the nodes that are alive and have an available pod.
func (c *cluster) serving() (n int) {
	w := twin{&c.in}
	for _, node := range c.in.Nodes {
		if !c.dead[node.Name] && slices.ContainsFunc(w.podsOf(node.Name), w.isAvailable) {
			n++
		}
	}
	return n
}

func drawCluster(t *rapid.T) *cluster {
	c := &cluster{dead: map[string]bool{}, fate: map[string]string{}, in: Input{Now: scriptNow(), Backoff: map[string]Backoff{}}}
	c.in.Set = Spec{Hash: "a", MinReady: rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(t, "minReady")}
	amount := Amount{Value: rapid.IntRange(1, 3).Draw(t, "amount")}
	if rapid.Bool().Draw(t, "surge") {
		c.in.Set.MaxSurge = amount
	} else {
		c.in.Set.MaxUnavailable = amount
	}
	for i := range rapid.IntRange(1, 7).Draw(t, "nodes") {
		n := Node{Name: fmt.Sprintf("n%d", i), Ready: true}
		if rapid.IntRange(0, 3).Draw(t, "dead") == 0 {
			c.dead[n.Name] = true
		}
		c.in.Nodes = append(c.in.Nodes, n)
	}
	return c
}

// alive counts the nodes that are alive.
func (c *cluster) alive() int { return len(c.in.Nodes) - len(c.dead) }

// settle steps until there is nothing left to do and every live node serves the current
// revision, or fails the test.
func (c *cluster) settle(t *rapid.T, atLeast int) {
	w := twin{&c.in}
	for range 60 + 20*len(c.in.Nodes) {
		c.step(t)
		if got := c.serving(); got < atLeast {
			t.Fatalf("%d nodes serve, want at least %d\n%s", got, atLeast, Render(&c.plan, c.in.Now))
		}
		done := len(c.plan.Creates)+len(c.plan.Deletes) == 0 && c.serving() == c.alive()
		for _, p := range c.in.Pods {
			done = done && (c.dead[p.Node] || w.isCurrent(p) && p.Deleted.IsZero())
		}
		if done {
			return
		}
	}
	t.Fatalf("not settled\n%s", Render(&c.plan, c.in.Now))
}

// An update ends, even after bad ones before it, and never with more nodes down than
// allowed; afterwards there is nothing left to do (I4, I5, I6, I10). Dead nodes do not
// change that.
func TestUpdatesSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		dying := c.dead
		c.dead = map[string]bool{}
		c.settle(t, 0)
		c.dead = dying
		for i := range c.in.Nodes {
			if n := &c.in.Nodes[i]; c.dead[n.Name] {
				n.Ready, n.Down, n.ReadyChanged = false, c.moment(), c.in.Now
			}
		}
		for i := range c.in.Pods {
			if p := &c.in.Pods[i]; c.dead[p.Node] {
				p.Ready = false
			}
		}
		c.in.Now = c.in.Now.Add(time.Minute)
		down, _ := c.in.Set.Budget(len(c.in.Nodes))
		floor := max(c.alive()-down, 0)
		for _, bad := range []string{"b", "c"} {
			c.in.Set.Hash = bad
			c.fate[bad] = rapid.SampledFrom([]string{"", "hangs", "fails"}).Draw(t, "fate")
			for range rapid.IntRange(0, 15).Draw(t, "steps") {
				c.step(t)
				if got := c.serving(); got < floor {
					t.Fatalf("%d nodes serve, want at least %d\n%s", got, floor, Render(&c.plan, c.in.Now))
				}
			}
		}
		c.in.Set.Hash = "d"
		c.settle(t, floor)
		for range 5 {
			c.step(t)
			if len(c.plan.Creates)+len(c.plan.Deletes) > 0 || !c.plan.WakeAt.IsZero() {
				t.Fatalf("something is done in a quiet cluster (I10)\n%s", Render(&c.plan, c.in.Now))
			}
		}
	})
}
