package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestFailover runs the program everynode-controller twice, with leader election,
// and takes away the leader in the middle of the first coverage and of a rolling
// update: it is told to stop, is killed, is frozen for a minute and woken, or is
// cut off from the API server for a minute. The observer must see no node with two
// pods and no breach of the budget, as if there had been only one controller. A
// process that has lost the lease must write nothing more, and the work must be
// finished.
//
// The times are printed, a line for each change of leaders. With EVERYNODE_LONG
// there are 500 nodes, all four faults, and repetitions. With frozen and cut off
// the work is slow, so that there is still much to do when the old leader is back.
func TestFailover(t *testing.T) {
	nodes, rounds, faults := 100, 1, []leaderFault{stopped, crashed}
	if os.Getenv("EVERYNODE_LONG") != "" {
		nodes, rounds, faults = 500, 5, []leaderFault{stopped, crashed, frozen, cutOff}
	}
	program := buildController(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			x := newFailover(t, f, nodes, program)
			x.begin()
			all := []figure{x.during("coverage", func() { x.l.create(x.set) })}
			again := rounds
			if f.lasts > 0 {
				again = 1 // each takes a minute, and the time until another one writes is that of a crash
			}
			for i := range again {
				all = append(all, x.during("rolling update", func() { x.l.edit(image(fmt.Sprintf("agent:%d", i+2))) }))
			}
			for _, wrong := range x.o.results().wrong {
				t.Error(wrong)
			}
			t.Log(summary(f.name, nodes, all))
		})
	}
}

// figure is how long one change of leaders took, from the time when the leader was
// struck.
type figure struct {
	first    time.Duration // until the next leader's first write
	finished time.Duration // until the work was finished
}

// summary returns one line for a table.
func summary(fault string, nodes int, all []figure) string {
	var first []time.Duration
	for _, f := range all {
		first = append(first, f.first)
	}
	slices.Sort(first)
	return fmt.Sprintf("failover: %d nodes, leader %s, %d times: the next one's first write after %s (median), %s (least), %s (most)",
		nodes, fault, len(first), seconds(first[len(first)/2]), seconds(first[0]), seconds(first[len(first)-1]))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// leaderFault is a fault of the leader.
type leaderFault struct {
	name   string
	strike func(*process) (mend func())
	lasts  time.Duration // until mend is called; zero: there is no mend
	pace   float64       // pods a second at most; zero: no limit
}

const outage = time.Minute

var (
	stopped = leaderFault{name: "told to stop", strike: func(p *process) func() {
		p.signal(syscall.SIGTERM)
		<-p.dead
		return nil
	}}
	crashed = leaderFault{name: "killed", strike: func(p *process) func() {
		p.kill()
		return nil
	}}
	frozen = leaderFault{name: "frozen", lasts: outage, pace: 7, strike: func(p *process) func() {
		p.signal(syscall.SIGSTOP)
		return func() { p.signal(syscall.SIGCONT) }
	}}
	cutOff = leaderFault{name: "cut off", lasts: outage, pace: 7, strike: func(p *process) func() { return p.gate.cutOff() }}
)

// failover is two controller processes on one cluster.
type failover struct {
	leaderFault
	t       *testing.T
	l       *lab
	p       *faultProxy
	o       *observer
	set     *appsv1.DaemonSet
	nodes   int
	program string
	dir     string
	pair    []*process // the leader, and the one that stands by
}

// buildController builds the program from the current sources.
func buildController(t *testing.T) string {
	t.Helper()
	return build(t, "everynode/cmd/everynode-controller")
}

func build(t *testing.T, path string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), filepath.Base(path))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", program, path).CombinedOutput()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", path, err, out)
	}
	return program
}

func newFailover(t *testing.T, f leaderFault, nodes int, program string) *failover {
	x := &failover{leaderFault: f, t: t, l: newLab(t), o: newObserver(), nodes: nodes, program: program, dir: t.TempDir()}
	x.l.kubelet.change(func(k *kubelet) { k.delay = 80 * time.Millisecond })
	x.p = newFaultProxy(t, x.l.config, 0, x.o.note)
	x.o.asked = x.p.askedAt
	(&truth{t: t, tell: x.o.see, store: shared.store}).follow()
	for i := range nodes {
		x.l.addNode(fmt.Sprintf("n%03d", i), nil)
	}
	x.set = agent(rolling(1, 0), func(ds *appsv1.DaemonSet) {
		*ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = intstr.FromString("10%")
	})
	x.l.dropTraces() // otherwise the last pair's lease would have to expire first
	t.Cleanup(func() {
		for _, p := range x.pair {
			p.kill()
			p.gate.drain()
		}
	})
	return x
}

// begin starts both, one after the other, so that it is known which one leads.
func (x *failover) begin() {
	x.t.Helper()
	x.pair = []*process{x.start()}
	x.wait("the first one leads", lives, func() bool { return leads(x.pair[0]) })
	x.pair = append(x.pair, x.start())
	x.wait("the other one stands by", lives, func() bool { return x.pair[1].gate.standsBy() })
}

func leads(p *process) bool { return p.gate.callsOf("POST leases", "PUT leases") > 0 }

// standsBy reports whether a process watches everything that it must know, and has
// asked for the lease.
func (g *gate) standsBy() bool {
	for _, what := range []string{"GET leases", "WATCH pods", "WATCH nodes", "WATCH daemonsets", "WATCH controllerrevisions"} {
		if g.callsOf(what) == 0 {
			return false
		}
	}
	return true
}

func (x *failover) start() *process {
	x.t.Helper()
	g := x.p.open("controller")
	args := []string{"--kubeconfig", x.kubeconfig(g), "--metrics-bind-address=0"}
	if x.pace > 0 {
		args = append(args, "--create-qps", strconv.FormatFloat(x.pace, 'f', -1, 64))
	}
	x.o.note(g.name + " starts")
	return launch(x.t, exec.Command(x.program, args...), g, x.dir)
}

func (x *failover) kubeconfig(g *gate) (file string) {
	x.t.Helper()
	file = filepath.Join(x.dir, g.name+".kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "lab",
"contexts": [{"name": "lab", "context": {"cluster": "lab"}}], "clusters": [{"name": "lab", "cluster": {"server": %q}}]}`, g.url)
	x.l.do(os.WriteFile(file, []byte(text), 0o600))
	return file
}

// during begins some work, strikes the leader in the middle of it, and returns the
// figures once another process has finished the work.
func (x *failover) during(what string, begin func()) figure {
	x.t.Helper()
	leader, other := x.pair[0], x.pair[1]
	begun := time.Now()
	begin()
	middle := x.nodes / 4 // an update needs two writes for each node
	x.wait("the leader is in the middle", lives, func() bool { return len(leader.gate.since(begun)) >= middle })
	struck := time.Now()
	x.o.note(leader.name + " is " + x.name)
	mend := x.strike(leader)
	x.wait("the other one writes", lives, func() bool { return len(other.gate.since(struck)) > 0 })
	first := slices.MinFunc(other.gate.since(struck), time.Time.Compare)
	if mend != nil {
		x.mend(leader, struck, mend)
	}
	x.wait("the work is finished", x.patience(), func() bool { return x.o.unlike() == "" })
	finished := time.Since(struck)
	if late := leader.gate.since(first); len(late) > 0 {
		x.t.Errorf("in a %s: %s has made %d writes, the last of them %s, after another had begun", what, leader.name,
			len(late), late[len(late)-1].Sub(first).Round(time.Millisecond))
	}
	x.next()
	f := figure{first.Sub(struck), finished}
	x.t.Logf("failover: leader %s in a %s: the next one's first write after %s, the work finished after %s", x.name, what, seconds(f.first), seconds(f.finished))
	return f
}

// mend waits for the end of the outage, calls mend, and waits until the old leader
// has looked at the lease.
func (x *failover) mend(leader *process, struck time.Time, mend func()) {
	x.t.Helper()
	x.wait("the outage is over", outage+lives, func() bool { return time.Since(struck) >= x.lasts })
	if unlike := x.o.unlike(); unlike == "" {
		x.t.Error("there is nothing left to do when the old leader is back: this is a defect of the test")
	}
	x.o.note(leader.name + " is back")
	reads := leader.gate.callsOf("GET leases")
	mend()
	x.wait("the old leader looks at the lease", lives, func() bool { return leader.gate.callsOf("GET leases") > reads })
}

// patience returns how long the work may take after a takeover.
func (x *failover) patience() time.Duration {
	if x.pace == 0 {
		return patience
	}
	return patience + time.Duration(float64(x.nodes)/x.pace*float64(time.Second))
}

// next makes a new pair, led by the process that has taken over.
func (x *failover) next() {
	x.t.Helper()
	old := x.pair[0]
	x.pair = x.pair[1:]
	select {
	case <-old.dead:
		old = x.start()
	default:
	}
	x.pair = append(x.pair, old)
	x.wait("another one stands by", lives, func() bool { return old.gate.standsBy() })
	if n := x.nodes; len(x.l.pods()) != n {
		x.t.Errorf("%d pods on %d nodes", len(x.l.pods()), n)
	}
}

// wait ends the test if a condition does not come true, and prints the controllers'
// logs.
func (x *failover) wait(what string, atMost time.Duration, cond func() bool) {
	x.t.Helper()
	if poll(x.t.Context(), atMost, cond) == nil {
		return
	}
	var said []string
	for _, p := range x.pair {
		said = append(said, p.name+":\n"+p.said())
	}
	x.t.Fatalf("not within %s: %s\nthe cluster: %s\n%s", atMost, what, x.o.unlike(), strings.Join(said, "\n"))
}
