package engine

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/plan"
)

// refusedCreates returns how many creates of pods the server has refused.
func (c *cluster) refusedCreates() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes["create pods"] - len(c.creates)
}

// A kubelet keeps a pod that has ended for a moment, and so the first name of the next pod is taken. The
// engine knows that pod, and does not ask for its name: no create is refused, and no pod is read. That holds
// for several updates in a row, while the names alternate, and with surge.
func TestNoCreateOfARolloutIsRefused(t *testing.T) {
	one, two, none := intstr.FromInt32(1), intstr.FromInt32(2), intstr.FromInt32(0)
	for name, rolls := range map[string]appsv1.RollingUpdateDaemonSet{
		"one by one": {MaxUnavailable: &one},
		"surge":      {MaxUnavailable: &none, MaxSurge: &two},
	} {
		for _, lingers := range []time.Duration{0, 600 * time.Millisecond, 4 * time.Second} {
			t.Run(fmt.Sprintf("%s, pods linger for %s", name, lingers), func(t *testing.T) {
				inCluster(t, func(c *cluster) { c.rollsWithoutRefusals(rolls, lingers) })
			})
		}
	}
}

func (c *cluster) rollsWithoutRefusals(rolls appsv1.RollingUpdateDaemonSet, lingers time.Duration) {
	const nodes = 6
	c.lingers = lingers
	c.addNodes(nodes)
	c.addSet(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate = &rolls })
	reads := 0
	c.intercept(func(r request) (error, bool) {
		if r.is("get", "pods") {
			reads++
		}
		return nil, false
	})
	c.start()
	c.run(10 * time.Second)
	for i := range 4 {
		next := fmt.Sprint("agent:", i+2)
		c.editSet(image(next))
		c.run(3 * time.Minute)
		c.covered(nodes, next)
	}
	if made := len(c.creates); made != 5*nodes {
		c.t.Errorf("%d pods were made, want %d", made, 5*nodes)
	}
	if n := c.refusedCreates(); n != 0 || reads != 0 {
		c.t.Errorf("%d creates were refused, and %d pods read, for %d updates of a pod", n, reads, 4*nodes)
	}
}

// A create whose answer was lost, and that a read does not show, may still arrive. Its name was another one
// than that of the old pod, which is gone when the create is tried again. The engine asks for the same name
// again, so that one of the two finds it taken.
func TestLateCreateMeetsTheNextOne(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(1)
		c.addSet()
		c.start()
		c.run(10 * time.Second)
		old := c.podOn("node-01").Name
		var mu sync.Mutex
		var late []request
		lose := true
		c.intercept(func(r request) (error, bool) {
			mu.Lock()
			defer mu.Unlock()
			if !lose || !r.is("create", "pods") {
				return nil, false
			}
			late = append(late, r)
			return io.ErrUnexpectedEOF, false
		})
		c.editSet(image("agent:2"))
		gone := func() bool {
			return !slices.ContainsFunc(c.pods(), func(p *corev1.Pod) bool { return p.Name == old })
		}
		for range 100 {
			if c.run(50 * time.Millisecond); gone() {
				break
			}
		}
		mu.Lock()
		lose = false
		arrives := late[0]
		mu.Unlock()
		c.run(5 * time.Second) // the next create has been sent
		made := c.podOn("node-01").Name
		if made == old {
			t.Error("the next create asked for the name of the old pod, and not for the one that may still arrive")
		}
		if _, err := c.serve(arrives); err == nil {
			t.Error("the late create made a second pod")
		}
		c.run(10 * time.Second)
		c.covered(1, "agent:2")
	})
}

// Whichever name comes first, each is tried once; and a name is kept for the same purpose, and for as long as
// the create may still arrive.
func TestNamesBeginWithTheOneThatMayArrive(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", UID: "uid-agent"}}
	writeAfter := func(predecessor string) *write {
		return &write{ds: ds, create: &plan.Create{Node: "a", Predecessor: predecessor}}
	}
	plain := writeAfter("")
	for first := range 4 {
		w := writeAfter("")
		w.first = first
		var got, want []string
		for try := range 6 {
			got, want = append(got, w.name(try)), append(want, plain.name(try))
		}
		if got[0] != want[first] {
			t.Errorf("%d comes first: the first name is %s, want %s", first, got[0], want[first])
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d comes first: names %v, want %v", first, got, want)
		}
	}
	now, s := time.Unix(1000, 0), newState(identityOf(ds))
	lost := writeAfter("")
	lost.names, lost.taken = []string{plain.name(1)}, []string{plain.name(0)}
	s.keepName(lost, now)
	for what, c := range map[string]struct {
		w    *write
		at   time.Time
		want int
	}{
		"the same, tried again":      {plain, now.Add(time.Second), 1},
		"after a pod that has ended": {writeAfter("uid-1"), now.Add(time.Second), 0},
		"an hour later":              {plain, now.Add(time.Hour), 0},
	} {
		if got := s.firstName(c.w, c.at); got != c.want {
			t.Errorf("%s: name %d comes first, want %d", what, got, c.want)
		}
	}
	s.settleName("a")
	if got := s.firstName(plain, now); got != 0 {
		t.Error("the name is kept although the pod was made")
	}
}
