package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// slot is one act on a node. Each slot is retried on its own.
type slot struct {
	node string
	act  plan.Act
}

// retry is when a slot that has failed may be tried again, and the pause before that.
type retry struct{ at, delay time.Duration }

// failed postpones a slot, longer each time; worked ends that.
func (c *controller) failed(w *write, at delivery.Pace) {
	s := w.slot()
	delay := at.Next(c.retries[s].delay)
	c.retries[s] = retry{at: c.w.now + delay, delay: delay}
}

// renewed forgets what was refused on an earlier node of that name, that its pods did not last, and that a release has
// reached it.
func (c *controller) renewed(node string) {
	maps.DeleteFunc(c.retries, func(s slot, _ retry) bool { return s.node == node })
	delete(c.refusals.nodes, node)
	if b, known := c.backoff[node]; known {
		b.Remakes, b.Hash = plan.Remakes{}, ""
		c.backoff[node] = b
	}
	delete(c.course.reached.nodes, node)
}

// edited forgets what was refused before an edit.
func (c *controller) edited(set *daemonSet) {
	if c.edition != 0 && c.edition != set.generation {
		clear(c.retries)
		c.refusals = refusals{}
		clear(c.applier.overQuota)
		c.applier.quotaWait, c.applier.pause, c.applier.resume = 0, 0, 0
	}
	c.edition = set.generation
}

// nextRetry returns when the first postponed slot may be tried; 0: none is postponed.
func (c *controller) nextRetry() (at time.Duration) {
	for _, r := range c.retries {
		if r.at > c.w.now && (at == 0 || r.at < at) {
			at = r.at
		}
	}
	return at
}

func (c *controller) worked(w *write) { delete(c.retries, w.slot()) }

func (c *controller) putOff(w *write, d time.Duration) {
	s := w.slot()
	if r := c.retries[s]; c.w.now+d > r.at {
		c.retries[s] = retry{at: c.w.now + d, delay: r.delay}
	}
}

func (c *controller) waits(node string, act plan.Act) bool {
	return c.retries[slot{node, act}].at > c.w.now
}

// waiting returns the slots whose time has not come.
func (c *controller) waiting() map[string][]plan.Wait {
	waits := map[string][]plan.Wait{}
	if c.w.bug == WaitsHoldRoom {
		return waits
	}
	for _, s := range slices.SortedFunc(maps.Keys(c.retries), slot.compare) {
		if r := c.retries[s]; r.at > c.w.now {
			waits[s.node] = append(waits[s.node], plan.Wait{Act: s.act, Until: c.clock().Add(r.at - c.w.now)})
		}
	}
	return waits
}

func (s slot) compare(o slot) int {
	if c := cmp.Or(cmp.Compare(s.node, o.node), cmp.Compare(s.act.Kind, o.act.Kind), cmp.Compare(s.act.Pod, o.act.Pod)); c != 0 || s.act.Now == o.act.Now {
		return c
	}
	if s.act.Now {
		return 1
	}
	return -1
}

// act returns what distinguishes the write from other writes to the node.
func (w *write) act() plan.Act { return plan.ActOf(w.remove, w.change) }

func (w *write) slot() slot { return slot{w.node(), w.act()} }
