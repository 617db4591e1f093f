package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const probeAt = "kube-system/" + probeName

func alone(cfg *Config) { cfg.Alone = true }

func (c *cluster) probe() *appsv1.DaemonSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	probe, _ := c.objects["daemonsets"][probeAt].(*appsv1.DaemonSet)
	return probe
}

// observe does to the probe what a controller does to every DaemonSet.
func (c *cluster) observe() {
	edit(c, "daemonsets", probeAt, func(ds *appsv1.DaemonSet) {
		ds.Status.ObservedGeneration = ds.Generation
		ds.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", Subresource: "status"}}
	})
}

// other starts a DaemonSet controller that observes the probe soon after it is created,
// until off is called.
func (c *cluster) other(after time.Duration) (off func()) {
	on := true
	c.intercept(func(r request) (error, bool) {
		if on && r.is("create", "daemonsets") {
			time.AfterFunc(after, c.observe)
		}
		return nil, false
	})
	return func() { c.intercept(nil) }
}

// catch records what Run returns.
func (c *cluster) catch() *error {
	err := new(error)
	c.fails = func(e error) { *err = e }
	return err
}

func isRefusal(t *testing.T, err error) {
	t.Helper()
	var other *OtherController
	if !errors.As(err, &other) || other.Name != "kube-controller-manager" {
		t.Fatalf("Run: %v", err)
	}
	for _, want := range []string{"kube-controller-manager has written the status", probeAt, "-daemonset-controller", "--allow-other-controller"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// Beside another controller the engine does nothing and says so. When the other one is
// switched off, it works.
func TestRefusesBesideAnother(t *testing.T) {
	for name, mode := range map[string]func(*Config){"elected": elect("one"), "alone": func(*Config) {}} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.addNodes(3)
				c.addSet()
				off := c.other(8 * time.Second)
				err := c.catch()
				c.start(mode, alone)
				<-c.ended
				isRefusal(t, *err)
				if n := c.wrote("create pods"); n != 0 || c.probe() != nil {
					t.Errorf("%d creates, probe %v", n, c.probe())
				}
				if got := c.leader(); got != "" {
					t.Errorf("the lease is held by %q", got)
				}
				off()
				c.fails = nil
				c.start(mode, alone)
				c.run(9 * time.Second)
				if n := c.wrote("create pods"); n != 0 {
					t.Errorf("%d creates before another had time to answer", n)
				}
				c.run(11 * time.Second)
				c.covered(3, "agent:1")
				if p := c.probe(); p == nil || p.Status.ObservedGeneration != 0 {
					t.Errorf("we have answered our own probe: %+v", p)
				}
			})
		})
	}
}

// If the probe exists the next leader continues at once, and an old answer means
// nothing.
func TestProbeOutlivesLeaders(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"), alone)
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(20 * time.Second)
		c.start(elect("two"), alone)
		c.run(5 * time.Second)
		first := c.probe().UID
		stopOne()
		<-endedOne
		c.addNode("node-04")
		c.run(300 * time.Millisecond)
		c.podOn("node-04")
		if c.probe().UID != first {
			t.Error("the probe was replaced, so that its silence proves nothing")
		}
		c.stop()
		c.observe() // by one that is switched off again
		c.addNode("node-05")
		c.start(elect("three"), alone)
		c.run(20 * time.Second)
		c.covered(5, "agent:1")
		if c.probe().UID == first {
			t.Error("the probe that another has answered is still there")
		}
	})
}

// A controller that is switched on while the engine works makes the engine stop, and
// write nothing more.
func TestStopsWhenAnotherIsSwitchedOn(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		err := c.catch()
		c.start(elect("one"), alone)
		c.run(20 * time.Second)
		c.covered(3, "agent:1")
		c.observe()
		<-c.ended
		isRefusal(t, *err)
		creates := c.wrote("create pods")
		c.addNode("node-04")
		c.run(time.Minute)
		if n := c.wrote("create pods") - creates; n != 0 || c.leader() != "" {
			t.Errorf("%d creates after the end, leader %q", n, c.leader())
		}
	})
}

// A probe that somebody deletes is created again; without leader election it is deleted
// with its engine.
func TestProbeIsKept(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.start(alone)
		c.run(20 * time.Second)
		c.mu.Lock()
		c.store("daemonsets", "DELETED", c.objects["daemonsets"][probeAt].DeepCopyObject())
		c.mu.Unlock()
		c.run(time.Second)
		if c.probe() == nil {
			t.Error("the probe is gone")
		}
		c.stop()
		if c.probe() != nil {
			t.Error("the probe has outlived who asked")
		}
	})
}

// An engine of ours that does not share the lease is another controller.
func TestEnginesThatDoNotShareALease(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.start(elect("one"), alone)
		stopOne, endedOne := c.stopEngine, c.ended
		c.run(20 * time.Second)
		err := c.catch()
		c.start(alone, func(cfg *Config) { cfg.Identity = "stranger" })
		<-c.ended
		var other *OtherController
		if !errors.As(*err, &other) {
			t.Fatalf("Run: %v", *err)
		}
		c.run(20 * time.Second)
		c.covered(3, "agent:1")
		if p := c.probe(); p == nil || p.Annotations[askedBy] != "kube-system/everynode-controller" || p.Status.ObservedGeneration != 0 {
			t.Errorf("the probe of the one that works is not back: %+v", p)
		}
		stopOne()
		<-endedOne
	})
}

// An engine that may not find out whether it is alone does nothing, and says which
// permission it lacks.
func TestProbeThatIsNotPermitted(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(3)
		c.addSet()
		c.deny("create daemonsets")
		m := NewMonitor()
		c.start(alone, func(cfg *Config) { cfg.Monitor = m })
		c.run(time.Minute)
		if n := c.wrote("create pods"); n != 0 {
			t.Errorf("%d creates", n)
		}
		notReady(t, m, "whether another DaemonSet controller is active", "not permitted: create daemonsets in kube-system")
		c.deny()
		c.run(time.Minute)
		c.covered(3, "agent:1")
		isServing(t, m)
	})
}
