package engine

import (
	"maps"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// backup returns the fake API server's state, like a snapshot of etcd.
func (f *fakeAPI) backup() map[string]map[string]runtime.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	saved := map[string]map[string]runtime.Object{}
	for resource, objects := range f.objects {
		saved[resource] = maps.Clone(objects) // objects in the store are immutable
	}
	return saved
}

// restore replaces the current state with a backup. As a restore of etcd has to, it
// raises the version, and no watch can be resumed.
func (f *fakeAPI) restore(saved map[string]map[string]runtime.Object) {
	f.mu.Lock()
	f.version += 1_000_000_000
	for resource := range f.objects {
		f.objects[resource], f.log[resource] = maps.Clone(saved[resource]), nil
	}
	f.mu.Unlock()
	f.cutWatches(true)
}

// An API server that was restored from a backup while the engine ran shows objects of
// older versions than the engine has seen. Its lists are still the truth: the engine
// follows them, and restarts nothing.
func TestServerRestoredFromBackup(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(5)
		c.addSet()
		c.start()
		c.run(20 * time.Second)
		c.covered(5, "agent:1")
		saved, pods := c.backup(), c.pods()
		c.editSet(image("agent:2"))
		c.run(3 * time.Minute)
		c.covered(5, "agent:2")

		creates := len(c.creates)
		c.restore(saved)
		c.run(time.Minute)
		c.covered(5, "agent:1")
		for i, p := range c.pods() {
			if p.UID != pods[i].UID {
				t.Errorf("the pod of %s was replaced", p.Spec.NodeName)
			}
		}
		if n := len(c.creates) - creates; n != 0 {
			t.Errorf("%d pods were created after the restore", n)
		}

		// It continues from there.
		c.addNode("node-06")
		c.run(20 * time.Second)
		c.covered(6, "agent:1")
		c.editSet(image("agent:3"))
		c.run(3 * time.Minute)
		c.covered(6, "agent:3")
	})
}
