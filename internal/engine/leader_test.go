package engine

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"everynode/internal/delivery"
)

func (c *cluster) leader() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.objects["leases"]["kube-system/everynode-controller"].(*coordinationv1.Lease)
	if !ok || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func elect(name string) func(*Config) {
	return func(cfg *Config) { cfg.LeaderElect, cfg.Identity = true, name }
}

// Of two engines one works; when it stops, it has released the lease and the other takes over within seconds.
func TestLeaderHandsOver(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(time.Second)
		c.start(elect("two"))
		c.run(5 * time.Second)
		if got := c.leader(); got != "one" {
			t.Fatalf("the leader is %q", got)
		}
		c.addSet()
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		stopOne()
		<-endedOne
		if got := c.leader(); got == "one" {
			t.Error("the lease is held after a clean stop")
		}
		c.run(100 * time.Millisecond) // it does not wait for its next try
		if got := c.leader(); got != "two" {
			t.Errorf("the leader is %q", got)
		}
		c.addNode("node-04")
		c.run(5 * time.Second)
		c.covered(4, "agent:1")
		if n := c.wrote("create pods"); n != 4 {
			t.Errorf("%d creates by two engines", n)
		}
	})
}

// A leader that is told to stop waits for the answers to its requests for a while. The API server may not notice that the
// client is gone, and would carry out a request beside the next leader.
func TestStoppedLeaderHearsItsAnswers(t *testing.T) {
	for _, takes := range []time.Duration{500 * time.Millisecond, time.Minute} {
		inCluster(t, func(c *cluster) {
			one := &slowServer{c: c, takes: writesTake(takes), resets: takes > parting}
			c.start(one.use, elect("one"))
			c.addNodes(3)
			c.run(5 * time.Second)
			c.addSet()
			c.run(400 * time.Millisecond)
			told := time.Now()
			c.stop()
			released := time.Now()
			if got := c.leader(); got == "one" {
				t.Error("the lease is held after a clean stop")
			}
			if took, late := released.Sub(told), takes > parting; took > parting+100*time.Millisecond || late && took < parting {
				t.Errorf("writes of %s: it has stopped after %s", takes, took)
			}
			c.run(2 * time.Minute)
			if takes < parting && one.first().IsZero() {
				t.Error("nothing was under way")
			}
			if last := one.last(); last.After(released) {
				t.Errorf("writes of %s: one took effect %s after the lease was released", takes, last.Sub(released))
			}
		})
	}
}

// The answer to a write is lost after the leader was told to stop, and not because of that. Then the write may take effect
// until its deadline, and the lease is kept until then.
func TestStoppedLeaderWhoseAnswerIsLostKeepsTheLease(t *testing.T) {
	inCluster(t, func(c *cluster) {
		one := &slowServer{c: c, takes: writesTake(500 * time.Millisecond)}
		var broken atomic.Bool
		c.start(func(cfg *Config) {
			cfg.Client = &rest.Config{Host: "http://fake", Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := one.RoundTrip(req)
				if broken.Load() && req.Method == http.MethodPost {
					return nil, io.ErrUnexpectedEOF
				}
				return resp, err
			})}
		}, elect("one"))
		c.addNodes(3)
		c.run(5 * time.Second)
		c.addSet()
		c.run(400 * time.Millisecond)
		told := time.Now()
		broken.Store(true)
		c.stop()
		if kept := time.Since(told); kept < 3*time.Second {
			t.Errorf("the lease was given up after %s", kept)
		}
		c.run(2 * time.Minute)
	})
}

// An engine that cannot renew its lease stops writing before another may lead,
// and works again when it wins it back.
func TestLostLeaseStopsWrites(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"))
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		var late atomic.Int32
		cutAt := time.Now()
		c.intercept(func(r request) (error, bool) {
			if r.resource == "leases" {
				return errors.New("no route to host"), false
			}
			if r.verb != "get" && r.verb != "list" && r.verb != "watch" && time.Since(cutAt) > delivery.LeaseTerm {
				late.Add(1)
			}
			return nil, false
		})
		c.run(delivery.LeaseTerm + delivery.RetryPeriod)
		c.editSet(image("agent:2"))
		c.run(time.Minute)
		if n := late.Load(); n != 0 {
			t.Errorf("%d writes after the lease could have passed to another", n)
		}
		c.intercept(nil)
		c.run(time.Minute)
		c.covered(3, "agent:2")
	})
}

// A new leader whose watches are behind acts on the current state, not on what they have shown.
func TestNewLeaderCatchesUp(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(10 * time.Second)
		c.start(elect("two"))
		c.run(time.Second)
		c.stall("daemonsets", true)
		c.stall("pods", true)
		c.editSet(image("agent:2"))
		c.finish(c.podOn("node-02"))
		stopOne()
		<-endedOne
		c.run(freshWait + time.Second)
		if p := c.podOn("node-02"); p == nil || p.Spec.Containers[0].Image != "agent:2" {
			t.Errorf("the pod of node-02, deleted behind the watch's back, is now %v", p)
		}
		if n := c.wrote("delete pods"); n > 1 {
			t.Errorf("%d deletes, with one node down", n)
		}
		c.stall("daemonsets", false)
		c.stall("pods", false)
		c.run(time.Minute)
		c.covered(3, "agent:2")
	})
}

// The same for nodes: what the last leader has seen of them is not undone, and old events that arrive afterwards change
// nothing.
func TestNewLeaderCatchesUpWithNodes(t *testing.T) {
	move := func(pool string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels = map[string]string{"pool": pool} }
	}
	inCluster(t, func(c *cluster) {
		c.addNodes(4)
		for _, node := range []string{"node-01", "node-02", "node-03"} {
			c.editNode(node, move("agents"))
		}
		c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"pool": "agents"} })
		c.start(elect("one"))
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		c.start(elect("two"))
		c.run(time.Second)
		c.stall("nodes", true)
		c.editNode("node-03", move("others"))
		c.editNode("node-04", move("agents"))
		c.addNode("node-05")
		c.editNode("node-05", move("agents"))
		stopOne()
		<-endedOne
		c.run(freshWait + 10*time.Second)
		var on []string
		for _, p := range c.pods() {
			on = append(on, p.Spec.NodeName)
		}
		if slices.Sort(on); !slices.Equal(on, []string{"node-01", "node-02", "node-04", "node-05"}) {
			t.Errorf("while the watch shows nothing, there are pods on %v", on)
		}
		before := c.wrote("create pods") + c.wrote("delete pods")
		c.stall("nodes", false)
		c.run(time.Minute)
		c.covered(4, "agent:1")
		if n := c.wrote("create pods") + c.wrote("delete pods") - before; n != 0 {
			t.Errorf("%d pods are created or deleted when the watch goes on", n)
		}
	})
}

// A leader that was frozen finds that another holds the lease when it wakes up. It writes nothing more, and does not touch the
// lease.
func TestWokenLeaderIsSilent(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"))
		c.run(10 * time.Second)
		c.covered(3, "agent:1")
		const lease = "kube-system/everynode-controller"
		edit(c, "leases", lease, func(l *coordinationv1.Lease) { *l.Spec.HolderIdentity = "two" })
		c.run(delivery.RetryPeriod + time.Second) // it tries to renew
		before := c.countWrites()
		c.editSet(image("agent:2"))
		c.run(delivery.RenewDeadline)
		if n := c.countWrites() - before; n != 0 {
			t.Errorf("%d writes by one that leads no more", n)
		}
		if got := c.leader(); got != "two" {
			t.Errorf("the leader is %q", got)
		}
		c.run(time.Minute) // engine two is never heard of again
		c.covered(3, "agent:2")
	})
}

// A tenure is over when it was not renewed in time, and a later renewal does not bring it back: others may have led, and be
// gone again.
func TestTenureLapses(t *testing.T) {
	now := time.Now()
	ended := 0
	n := newTenure()
	n.begin(func() { ended++ })
	if !n.holds(now) {
		t.Error("one that has not begun is over")
	}
	n.lose() // another process holds the lease, before this one has won it
	n.renew(now, delivery.LeaseTerm)
	if !n.holds(now.Add(delivery.RenewDeadline)) || ended != 0 {
		t.Error("over before the deadline")
	}
	if n.holds(now.Add(delivery.RenewDeadline+time.Millisecond)) || ended == 0 {
		t.Error("not over after the deadline")
	}
	n.renew(now.Add(delivery.RenewDeadline+time.Second), delivery.LeaseTerm)
	if n.holds(now.Add(delivery.RenewDeadline + time.Second)) {
		t.Error("it is back")
	}
}

// An engine that never led ends when asked to.
func TestFollowerEnds(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.start(elect("one"))
		one, ended := c.stopEngine, c.ended
		c.run(time.Second)
		c.start(elect("two"))
		c.run(5 * time.Second)
		c.stop()
		if got := c.leader(); got != "one" {
			t.Errorf("the leader is %q", got)
		}
		one()
		<-ended
	})
}

// Two engines are stopped one after the other, as when their Deployment is scaled to zero. The second one is just taking the
// lease that the first has released: it waits for the answer, and releases the lease.
func TestFollowerThatIsWinningReleases(t *testing.T) {
	for _, after := range []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, 350 * time.Millisecond, time.Second} {
		inCluster(t, func(c *cluster) {
			c.start(elect("one"))
			stopOne, endedOne := c.stopEngine, c.ended
			c.run(time.Second)
			two := &slowServer{c: c, takes: func(r request) time.Duration {
				if r.resource == "leases" && r.verb != "get" && r.verb != "list" {
					return 300 * time.Millisecond
				}
				return 0
			}}
			c.start(two.use, elect("two"))
			c.run(5 * time.Second)
			stopOne()
			<-endedOne
			c.run(after)
			c.stop()
			c.run(time.Second)
			if got := c.leader(); got != "" {
				t.Errorf("stopped %s after the first: %q holds the lease", after, got)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	if err := Run(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "API server") {
		t.Errorf("no client: %v", err)
	}
	if err := Run(t.Context(), Config{Client: newFakeAPI().config(), CreateQPS: -1}); err == nil || !strings.Contains(err.Error(), "-1") {
		t.Errorf("negative rate: %v", err)
	}
}
