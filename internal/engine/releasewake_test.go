package engine

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
)

// restart starts another engine, and calls look with each of its decisions.
func (c *cluster) restart(look func(e *engine, st *state)) {
	c.stop()
	c.start(func(cfg *Config) {
		cfg.decided = func(e *engine, set *setEntry, st *state) {
			c.audit(e, set, st)
			look(e, st)
		}
	})
}

// A release that waits for the API server to be well continues when it is, although nothing else happens.
func TestReleaseGoesOnAfterASilence(t *testing.T) {
	released(t, 5, "{}", "", func(c *cluster) {
		var running atomic.Pointer[engine]
		c.restart(func(e *engine, _ *state) { running.Store(e) })
		c.editSet(image("agent:2"))
		c.run(5 * time.Minute)
		c.wantRelease("at first", "Soaking NotSoaked first 1", map[string]int{"agent:2": 1, "agent:1": 4})
		a := running.Load().apply
		a.mu.Lock()
		a.resume = time.Now().Add(90 * time.Second)
		a.mu.Unlock()
		c.run(time.Minute)
		c.wantRelease("while the server wants silence", "Rolling APIUnwell first 1", map[string]int{"agent:2": 1, "agent:1": 4})
		c.run(time.Hour)
		c.wantRelease("in the end", "Idle   0", map[string]int{"agent:2": 5})
	})
}

// What is known about the stable revision, even that it is gone, is valid until the index has another one: it is not
// computed again with each event of a pod, which would mean looking at every node.
func TestStableRevisionIsReadOnce(t *testing.T) {
	for what, gone := range map[string]bool{"there": false, "gone": true} {
		t.Run(what, func(t *testing.T) {
			released(t, 5, "{}", "", func(c *cluster) {
				c.editSet(image("agent:2"))
				c.run(5 * time.Minute)
				c.stop()
				if gone {
					c.delete("controllerrevisions", "default/agent-"+c.rollout().Status.Stable, "")
				}
				read, kinds, decisions := 0, map[*stableRevision]bool{}, 0
				c.intercept(func(r request) (error, bool) {
					if r.is("get", "controllerrevisions") {
						read++
					}
					return nil, false
				})
				c.restart(func(_ *engine, st *state) {
					if s := st.course.stable; s != nil && (s.gone != nil) == gone {
						kinds[s] = true
						decisions++
					}
				})
				c.run(time.Minute)
				for range 5 {
					for _, is := range []bool{false, true} {
						c.editPod(c.podOn("node-01").Name, func(p *corev1.Pod) { ready(p, is) })
						c.run(5 * time.Second)
					}
				}
				want := 1
				if gone {
					want = 0 // the index has none to read
				}
				if read != want || len(kinds) != 1 || decisions < 10 {
					t.Errorf("in %d decisions the stable revision is read %d times, and is %d", decisions, read, len(kinds))
				}
			})
		})
	}
}

// After a DaemonSet is deleted in the middle of a release, changes of nodes no longer matter to it, even if that happens
// under another leader.
func TestReleaseOfADepartedDaemonSet(t *testing.T) {
	entry := func(uid string, version int) *setEntry {
		ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent", UID: types.UID(uid), ResourceVersion: fmt.Sprint(version)}}
		s, err := compactSet(ds)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for how, goes := range map[string]func(ix *index, set *setEntry){
		"deleted":    func(ix *index, set *setEntry) { ix.removeSet(set) },
		"not listed": func(ix *index, _ *setEntry) { ix.replaceSets(nil, 9) },
		"made again": func(ix *index, _ *setEntry) { ix.upsertSet(entry("second", 2)) },
	} {
		t.Run(how, func(t *testing.T) {
			ix, set := newIndex(), entry("first", 1)
			quiet := listener{dirty: func(types.NamespacedName) {}, left: func(nodeEntry, []string) {}}
			ix.upsertSet(set)
			ix.begin(quiet)
			ix.attend("first", true)
			ix.end()
			goes(ix, set)
			ix.begin(quiet)
			ix.upsertNode(nodeEntry{Node: plan.Node{Name: "node-01"}, version: 3})
			if len(ix.releases.under) != 0 {
				t.Errorf("%v are in the middle of a release", ix.releases.under)
			}
		})
	}
}
