package compat

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestKills runs each controller as a process of its own on a bad network and
// kills it at random writes, over and over. Then two work at once. Then one is
// frozen with writes on their way, and wakes up while its successor works. An
// observer (observer_test.go) judges every change. After each part the faults
// stop and the cluster must become what the specification says.
//
// Ours must do nothing wrong. What upstream does is only reported.
//
// EVERYNODE_KILLS_SEED sets the random choices; the timing is up to the
// machine. With EVERYNODE_LONG there are 200 kills.
func TestKills(t *testing.T) {
	our, up := size{kills: 11, rounds: 1, perRound: 4, freezes: 2, disputes: 3, nodes: 10, patience: 90 * time.Second},
		size{kills: 5, rounds: 1, perRound: 2, freezes: 1, disputes: 2, nodes: 10, patience: 20 * time.Second}
	if os.Getenv("EVERYNODE_LONG") != "" {
		our = size{kills: 120, rounds: 6, perRound: 8, freezes: 8, disputes: 24, nodes: 20, patience: 5 * time.Minute}
		up = size{kills: 60, rounds: 3, perRound: 8, freezes: 4, disputes: 12, nodes: 20, patience: time.Minute}
	}
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	if s := os.Getenv("EVERYNODE_KILLS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal("EVERYNODE_KILLS_SEED: ", err)
		}
	}
	t.Logf("EVERYNODE_KILLS_SEED=%d", seed)
	var columns []*trial
	for _, run := range []struct {
		controller
		size
	}{{ours, our}, {upstream, up}} {
		t.Run(run.name, func(t *testing.T) {
			x := newTrial(t, run.controller, run.size, seed)
			columns = append(columns, x)
			x.run()
		})
	}
	t.Log("\n" + table(columns))
}

// size is how much a trial does.
type size struct {
	kills    int           // of one process at a time
	rounds   int           // with two at once
	perRound int           // kills in each
	freezes  int           // each ends with a kill
	disputes int           // kills while two disagree about the template
	nodes    int           // in each pool
	patience time.Duration // until the end state must be right
}

// trial is one controller's run.
type trial struct {
	size
	t     *testing.T
	c     controller
	l     *lab
	p     *faultProxy
	o     *observer
	w     *workload
	dir   string
	begun time.Time

	random *rand.Rand // for the freezes

	mu       sync.Mutex
	killed   int
	alive    []*process
	started  int
	took     time.Duration
	settling []time.Duration
	unright  []string // parts after which the end state was not right in time
}

const (
	longestFuse = 20 // the most writes before a kill
	lives       = time.Minute
)

func newTrial(t *testing.T, c controller, s size, seed uint64) *trial {
	x := &trial{t: t, c: c, size: s, l: newLab(t), o: newObserver(), dir: t.TempDir(), begun: time.Now()}
	x.l.kubelet.change(func(k *kubelet) { k.delay = 80 * time.Millisecond })
	x.random = rand.New(rand.NewPCG(seed, 1<<32))
	x.p = newFaultProxy(t, x.l.config, seed, x.o.note)
	x.o.asked, x.o.kept = x.p.askedAt, x.p.keptAt
	(&truth{t: t, tell: x.o.see, store: shared.store}).follow()
	x.w = &workload{l: x.l, o: x.o, p: x.p, random: rand.New(rand.NewPCG(seed, 0)), joins: 3, version: 1}
	for i := range s.nodes {
		x.w.join(fmt.Sprintf("n%02d", i), steady)
		name := fmt.Sprintf("w%02d", i)
		x.w.wilds = append(x.w.wilds, name)
		x.w.join(name, wild)
	}
	for _, ds := range killSets() {
		x.l.create(ds)
	}
	t.Cleanup(x.killAll) // a failed test may leave some
	return x
}

func (x *trial) run() {
	ctx, stop := context.WithCancel(x.t.Context())
	var all sync.WaitGroup
	all.Go(func() { x.w.collect(ctx) })
	defer all.Wait()
	defer stop()

	x.oneByOne()
	for range x.rounds {
		x.twoAtOnce()
	}
	for range x.freezes {
		x.frozen()
	}
	x.disputed()
	x.took = time.Since(x.begun).Round(time.Second)
	x.l.do(x.o.reached(x.t.Context(), shared.store.Server.KV().Rev()))
	found := x.o.results()
	for _, wrong := range found.wrong {
		x.complain("%s", wrong)
	}
	if found.more > 0 {
		x.complain("and %d more", found.more)
	}
	for _, not := range x.unright {
		x.complain("not in time: %s", not)
	}
}

// start starts a process. If it is mortal, it is killed at one of its writes.
func (x *trial) start(mortal bool) *process {
	g := x.p.open(x.c.name)
	if mortal {
		g.light(longestFuse)
	}
	p := spawn(x.t, x.c, g, x.dir)
	x.o.note(g.name + " starts")
	x.mu.Lock()
	x.alive = append(x.alive, p)
	x.started++
	x.mu.Unlock()
	return p
}

// die waits until a process has ended, and all its requests are done.
func (x *trial) die(p *process) {
	x.t.Helper()
	timer := time.NewTimer(lives)
	defer timer.Stop()
	select {
	case <-p.dead:
		p.gate.drain()
		select {
		case <-p.gate.shutC:
			x.mu.Lock()
			x.killed++
			x.mu.Unlock()
		default:
			x.complain("%s ended by itself:\n%s", p.name, p.said())
		}
	case <-timer.C:
		p.gate.quench()
		x.complain("%s has not come to the write at which it was to be killed in %s:\n%s", p.name, lives, p.said())
		p.kill()
	}
}

// killAll ends every process. These kills are not counted.
func (x *trial) killAll() {
	x.mu.Lock()
	alive := x.alive
	x.alive = nil
	x.mu.Unlock()
	for _, p := range alive {
		p.gate.quench()
		p.kill()
		p.gate.drain()
	}
}

// oneByOne runs one process at a time, while templates are edited.
func (x *trial) oneByOne() {
	x.p.faulty(true)
	x.w.during(true, func() {
		for range x.kills {
			x.die(x.start(true))
		}
	})
	x.start(false)
	x.settle("after the kills")
}

// twoAtOnce runs two processes that have read the same templates. Each is
// killed, and replaced as soon as it is dead.
func (x *trial) twoAtOnce() {
	x.killAll()
	x.o.with(agreeing)
	x.w.renew()
	x.p.faulty(true)
	x.w.during(false, func() { x.pair(x.perRound) })
	x.settle("with two at once")
}

// pair runs two lines of processes until there were so many kills. The last
// process of each line keeps running.
func (x *trial) pair(kills int) {
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for range (kills + i) / 2 {
				x.die(x.start(true))
			}
			x.start(false)
		})
	}
	all.Wait()
}

// frozen stops a process while writes of it are on their way. It wakes up while
// its successor works, and only then do the writes arrive. All processes have
// read the same templates.
func (x *trial) frozen() {
	x.killAll()
	x.o.with(agreeing)
	x.w.renew()
	x.p.faulty(true)
	x.w.during(false, func() { x.freeze() })
	x.settle("after a process was frozen")
}

// freeze freezes a process. When it returns, that process is dead and its
// successor works.
func (x *trial) freeze() {
	old := x.start(false)
	before, meanwhile := 2+x.random.IntN(25), 6+x.random.IntN(30)
	x.wait("the first process writes", func() bool { return old.gate.writes() >= before })
	release := old.gate.holdWrites()
	defer release()
	x.wait("writes are on their way", func() bool { return old.gate.holding() >= 2 })
	old.signal(syscall.SIGSTOP)
	x.p.count("frozen")
	x.o.note(old.name + " is frozen")
	next := x.start(false)
	x.wait("its successor works", func() bool { return next.gate.writes() >= meanwhile })
	release()
	old.gate.light(longestFuse)
	x.o.note(old.name + " wakes up")
	old.signal(syscall.SIGCONT)
	x.die(old)
}

// disputed runs two at once, and then a frozen one, while templates are edited.
// See company for what is not guaranteed then.
func (x *trial) disputed() {
	x.killAll()
	x.o.with(disagreeing)
	x.p.faulty(true)
	x.w.during(true, func() {
		x.pair(x.disputes - 1)
		x.freeze()
	})
	x.settle("after two have disagreed")
}

// wait waits for what must happen before the test can continue.
func (x *trial) wait(what string, cond func() bool) {
	x.t.Helper()
	if poll(x.t.Context(), lives, cond) != nil {
		x.complain("not within %s: %s", lives, what)
	}
}

// complain fails the test if the controller is ours. About upstream it only
// logs.
func (x *trial) complain(format string, args ...any) {
	x.t.Helper()
	if x.c.name == ours.name {
		x.t.Errorf(format, args...)
	} else {
		x.t.Logf(format, args...)
	}
}

// settle stops the faults and waits for the end state.
func (x *trial) settle(when string) {
	x.t.Helper()
	x.p.faulty(false)
	begun := time.Now()
	err := poll(x.t.Context(), x.patience, func() bool {
		x.w.finish(x.t.Context())
		return x.o.unlike() == ""
	})
	x.settling = append(x.settling, time.Since(begun))
	if err != nil {
		x.unright = append(x.unright, when+": "+x.o.unlike())
	}
}

// table returns the results of the trials side by side.
func table(trials []*trial) string {
	var rows [][]string
	row := func(name string, cell func(*trial) any) {
		r := []string{name}
		for _, x := range trials {
			r = append(r, fmt.Sprint(cell(x)))
		}
		rows = append(rows, r)
	}
	faults := map[string]bool{}
	for _, x := range trials {
		for kind := range x.p.tally() {
			faults[kind] = true
		}
	}
	row("", func(x *trial) any { return x.c.name })
	row("nodes", func(x *trial) any { return 2*x.nodes + x.w.joined })
	row("processes killed", func(x *trial) any { return x.killed })
	row("writes that were done", func(x *trial) any { return x.p.writes() })
	for _, kind := range slices.Sorted(maps.Keys(faults)) {
		row("  "+kind, func(x *trial) any { return x.p.tally()[kind] })
	}
	for who := alone; who <= disagreeing; who++ {
		row("two pods on a node, "+who.String(), func(x *trial) any { return x.o.results().doubles[who] })
		row("budget breaches, "+who.String(), func(x *trial) any { return x.o.results().breaches[who] })
	}
	row("end states that were right", func(x *trial) any { return fmt.Sprintf("%d of %d", len(x.settling)-len(x.unright), len(x.settling)) })
	row("longest time to one", func(x *trial) any { return x.slowest() })
	row("time in all", func(x *trial) any { return x.took })
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-42s", r[0])
		for _, cell := range r[1:] {
			fmt.Fprintf(&b, " %14s", cell)
		}
		b.WriteByte('\n')
	}
	for _, x := range trials {
		for _, not := range x.unright {
			fmt.Fprintf(&b, "%s did not come to its specification within %s %s\n", x.c.name, x.patience, not)
		}
	}
	return b.String()
}

func (x *trial) slowest() string {
	longest := slices.Max(append(x.settling, 0)).Round(100 * time.Millisecond)
	if len(x.unright) > 0 {
		return "not in " + x.patience.String()
	}
	return longest.String()
}
