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

// A release that the backup knows to be taken back, or to be in its first wave, is that again once the API server is restored,
// whatever has become of it since.
func TestReleaseRestoredFromBackup(t *testing.T) {
	t.Run("taken back", func(t *testing.T) {
		released(t, 20, "{}", "agent:bad", func(c *cluster) {
			c.editSet(image("agent:bad"))
			c.run(15 * time.Minute)
			c.ask(`{"abort": 1}`)
			c.run(5 * time.Minute)
			c.wantRelease("before", "Aborted AbortRequested first 0", map[string]int{"agent:1": 20})
			saved := c.backup()
			c.editSet(image("agent:1"))
			c.run(5 * time.Minute)
			c.wantRelease("after the revert", "Idle   0", map[string]int{"agent:1": 20})
			c.restore(saved)
			c.run(time.Hour)
			c.wantRelease("restored", "Aborted AbortRequested first 0", map[string]int{"agent:1": 20})
		})
	})
	t.Run("in its first wave", func(t *testing.T) {
		released(t, 20, "{}", "", func(c *cluster) {
			c.editSet(image("agent:2"))
			c.run(5 * time.Minute)
			c.wantRelease("before", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 19})
			saved := c.backup()
			c.run(time.Hour)
			c.wantRelease("in the end", "Idle   0", map[string]int{"agent:2": 20})
			c.restore(saved)
			c.run(time.Minute)
			c.wantRelease("restored", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 19})
			c.run(time.Hour)
			c.wantRelease("in the end again", "Idle   0", map[string]int{"agent:2": 20})
		})
	})
}
