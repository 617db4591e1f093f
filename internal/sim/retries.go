package sim

import "time"

// retry is when a node that a write has failed for may be tried again, and the pause before that.
type retry struct{ at, delay time.Duration }

// failed puts a node off, twice as long each time; worked ends that.
func (c *controller) failed(node string, first time.Duration) {
	delay := min(max(2*c.retries[node].delay, first), maxRetry)
	c.retries[node] = retry{at: c.w.now + delay, delay: delay}
}

// nextRetry is when the first node that was put off may be tried; 0: none was.
func (c *controller) nextRetry() (at time.Duration) {
	for _, r := range c.retries {
		if r.at > c.w.now && (at == 0 || r.at < at) {
			at = r.at
		}
	}
	return at
}

func (c *controller) worked(node string) { delete(c.retries, node) }

func (c *controller) putOff(node string, d time.Duration) {
	if r := c.retries[node]; c.w.now+d > r.at {
		c.retries[node] = retry{at: c.w.now + d, delay: r.delay}
	}
}

func (c *controller) waits(node string) bool { return c.retries[node].at > c.w.now }
