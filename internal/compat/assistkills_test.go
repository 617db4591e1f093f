package compat

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestAssistKills: also beside Kubernetes' controller, however often the engine is killed, no more nodes get the
// target than the stored quota allows, except nodes that have joined meanwhile and got it from Kubernetes'
// controller, and no more nodes are down than may be. The engine is a process that is killed by SIGKILL before,
// during or after one of its writes. Its successor starts once all requests of the dead process are done, as with a
// lease. With EVERYNODE_LONG there are 200 kills.
func TestAssistKills(t *testing.T) {
	const policy = "{waves: [{name: one, nodes: 1, soak: 300ms}, {name: some, nodes: 4, soak: 300ms}, {name: all, nodes: 100%}]}"
	d, _, _ := newAssisted(t, policy, 10, rolling(2, 0), onDelete)
	k := &assistKills{rolloutKinds: d, most: 24, joins: 2, dir: t.TempDir()}
	if os.Getenv("EVERYNODE_LONG") != "" {
		k.most, k.joins = 200, 6
	}
	k.p = newFaultProxy(t, d.config, uint64(time.Now().UnixNano()), func(string) {})
	k.start(0) // nobody would succeed it before it has looked at the release
	t.Cleanup(func() {
		k.engine.gate.quench()
		k.engine.kill()
		k.engine.gate.drain()
	})
	d.stands(0, "Idle", "")
	d.watchDown()
	k.engine.gate.light(writesUntilKill)
	for release := 1; k.kills < k.most; release++ {
		k.release(release)
	}
	t.Logf("%d kills, %v, %d looks, %d nodes have joined", k.kills, k.p.tally(), k.looks, k.joined)
	if k.looks < 5*k.most || k.joined < k.joins {
		t.Errorf("%d looks and %d nodes that have joined are too few to tell", k.looks, k.joined)
	}
}

// assistKills is the engine that is killed, with counts of what happened.
type assistKills struct {
	*rolloutKinds
	p             *faultProxy
	dir           string
	engine        *process
	most, kills   int
	joins, joined int
	looks         int
}

// writesUntilKill is how many writes an engine has at most before it is killed. A release needs about thirty.
const writesUntilKill = 6

// start starts an engine that is killed at one of its first writes; zero: it lives.
func (k *assistKills) start(writes int) {
	k.t.Helper()
	g := k.p.open(assists)
	if writes > 0 {
		g.light(writes)
	}
	k.engine = spawn(k.t, controller{name: assists}, g, k.dir)
}

// succeed starts another engine if the current one is dead.
func (k *assistKills) succeed() {
	k.t.Helper()
	select {
	case <-k.engine.dead:
	default:
		return
	}
	select {
	case <-k.engine.gate.shutC:
	default:
		k.t.Fatalf("%s ended by itself:\n%s", k.engine.name, k.engine.said())
	}
	k.engine.gate.drain()
	if k.kills++; k.kills < k.most {
		k.start(writesUntilKill)
	} else {
		k.start(0)
	}
}

// release takes a release through. In the middle of every other one a node joins.
func (k *assistKills) release(number int) {
	k.t.Helper()
	to, leaked, deadline := fmt.Sprintf("agent:k%d", number), 0, time.Now().Add(3*time.Minute)
	k.edit(image(to))
	for !k.everywhere(to) || k.rollout().Status.Phase != "Idle" {
		k.succeed()
		has := k.of(to)
		s := k.rollout().Status
		if s.Release == number && s.Phase != "Idle" {
			k.looks++
			if has > s.Quota+leaked {
				k.t.Fatalf("%d nodes have %s, the quota that is kept is %d, and %d have joined: %+v", has, to, s.Quota, leaked, s)
			}
			if leaked == 0 && k.joined < k.joins && number%2 == 1 {
				k.join(fmt.Sprintf("joined-%d", k.joined))
				leaked++
				k.joined++
			}
		}
		if down := k.mostDown(); down > 2 {
			k.t.Fatalf("%d nodes were down at once, 2 may", down)
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("release %d does not end: %+v\n%s", number, s, k.engine.said())
		}
		k.within(10*time.Millisecond, func() bool { return false })
	}
}
