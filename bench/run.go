package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

// bench is a whole measurement.
type bench struct {
	settings
	root      string // of all temporary files
	progress  io.Writer
	began     time.Time
	keys      testbed.PKI
	prepared  map[int]*testbed.Cluster // stopped, with nodes and nothing else; by number of nodes
	nodeBytes int
	bare      bareSettings
	samples   []report.Sample
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%7.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) all(ctx context.Context) error {
	var err error
	if b.keys, err = testbed.MakePKI(filepath.Join(b.root, "pki")); err != nil {
		return err
	}
	b.prepared = map[int]*testbed.Cluster{}
	for repetition := range b.repetitions {
		for _, name := range inTurn(b.systems, repetition) {
			if systemNamed(name).once && repetition > 0 {
				continue
			}
			if name == "U0" {
				err = b.asShippedBeside(ctx, repetition)
			} else {
				err = b.one(ctx, name, repetition, b.nodes, b.phases)
			}
			if err != nil {
				return fmt.Errorf("%s, repetition %d: %w", name, repetition+1, err)
			}
		}
	}
	return nil
}

// inTurn returns the systems in the order of a repetition: every other one goes backwards. A run may be slower because of
// what the run before it has left, such as a disk that still writes, and that should not always be the same one.
func inTurn(systems []string, repetition int) []string {
	order := slices.Clone(systems)
	if repetition%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// asShippedBeside measures upstream with its default client limits, and the
// engine on the same cluster.
func (b *bench) asShippedBeside(ctx context.Context, repetition int) error {
	cold := []string{phaseCoverage}
	if err := b.one(ctx, "U0", repetition, b.asShipped, cold); err != nil {
		return err
	}
	if b.asShipped == b.nodes || !slices.Contains(b.systems, "E") {
		return nil
	}
	return b.one(ctx, "E", repetition, b.asShipped, cold)
}

// prepare makes a cluster of n nodes, once. Every run starts from a copy.
func (b *bench) prepare(ctx context.Context, n int) (*testbed.Cluster, error) {
	if c := b.prepared[n]; c != nil {
		return c, nil
	}
	began := time.Now()
	c, err := testbed.StartCluster(ctx, filepath.Join(b.root, fmt.Sprintf("prepared-%d", n)), b.keys)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	if b.nodeBytes, err = c.Fill(ctx, n, map[string]int{testbed.LabelSerial: b.serial, testbed.LabelReal: b.real}); err != nil {
		return nil, err
	}
	b.say("prepared %d nodes of %d bytes in %.1f s", n, b.nodeBytes, time.Since(began).Seconds())
	b.prepared[n] = c
	return c, nil
}

// run is one system on its own cluster.
type run struct {
	*bench
	*testbed.Cluster
	system     system
	repetition int
	size       int // nodes
	fleet      *fleet
	kubelet    *kubelet
	processes  []*testbed.Child // the processes that are compared
	idleMade   bool

	mu   sync.Mutex
	anon uint64 // the peak of the resident memory without files, of all processes together
}

func (b *bench) one(ctx context.Context, name string, repetition, nodes int, phases []string) error {
	prepared, err := b.prepare(ctx, nodes)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.root, fmt.Sprintf("%s-%d-%d", name, nodes, repetition))
	defer os.RemoveAll(dir)
	if err := prepared.CopyTo(dir); err != nil {
		return err
	}
	c, err := testbed.StartCluster(ctx, dir, b.keys)
	if err != nil {
		return err
	}
	defer c.Stop()
	client, err := kubernetes.NewForConfig(b.keys.Config(c.URL, testbed.UserKubelet))
	if err != nil {
		return fmt.Errorf("make the kubelet's client: %w", err)
	}
	k := newKubelet(client)
	r := &run{bench: b, Cluster: c, system: systemNamed(name), repetition: repetition, size: nodes, fleet: newFleet(k.look, b.say), kubelet: k}
	k.fail = r.fleet.fail
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer r.fleet.watches.Wait()
	defer cancel()
	all.Go(func() { k.run(ctx) })
	r.fleet.start(ctx, client)
	if r.system.bare {
		return (&bareRun{r}).measureBare(ctx)
	}
	defer func() {
		for _, p := range r.processes {
			p.Stop()
		}
	}()
	if err := r.startSystem(ctx); err != nil {
		return err
	}
	all.Go(func() { r.sampleMemory(ctx) })
	return r.runPhases(ctx, phases)
}

// sampleMemory reads the anonymous memory ten times a second, because the
// kernel does not keep its peak.
func (r *run) sampleMemory(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var sum uint64
		r.mu.Lock()
		for _, p := range r.processes {
			if u, err := usageOf(p.PID()); err == nil { // otherwise it is just ending
				sum += u.Anon
			}
		}
		r.anon = max(r.anon, sum)
		r.mu.Unlock()
	}
}

// driverName is the name of this process in figures: the driver and the fake
// kubelet.
const driverName = "bench"

// reading is what has been used, and requested of the server, up to a time.
type reading struct {
	at       time.Time
	machine  float64          // processor time of the whole machine, in seconds
	use      map[string]usage // by process
	requests map[testbed.Request]testbed.Answers
}

func (r *run) read(ctx context.Context) (reading, error) {
	now := reading{at: time.Now(), use: map[string]usage{}, requests: map[testbed.Request]testbed.Answers{}}
	for _, p := range append([]*testbed.Child{r.API, r.Etcd}, r.processes...) {
		u, err := usageOf(p.PID())
		if err != nil {
			return now, errors.Join(err, testbed.Alive(p))
		}
		now.use[p.Name] = u
	}
	var err error
	if now.use[driverName], err = usageOf(os.Getpid()); err != nil {
		return now, err
	}
	if now.machine, err = machineCPU(); err != nil {
		return now, err
	}
	body, err := r.Client.Discovery().RESTClient().Get().AbsPath(testbed.CountPath).Do(ctx).Raw()
	if err != nil {
		return now, fmt.Errorf("read the server's counts: %w", err)
	}
	var list []testbed.Entry
	if err := json.Unmarshal(body, &list); err != nil {
		return now, fmt.Errorf("read the server's counts: %w", err)
	}
	for _, e := range list {
		now.requests[e.Request] = e.Answers
	}
	return now, nil
}

// since computes the figures of what happened between two readings.
func (r *run) since(before, after reading, m report.Metrics) {
	m["elapsed"], m["cpuOthers"] = after.at.Sub(before.at).Seconds(), after.machine-before.machine
	for name, u := range after.use {
		cpu := u.CPU - before.use[name].CPU
		m["cpu."+name] = cpu
		m["cpuOthers"] -= cpu
		switch name {
		case driverName:
			m["cpuKubelet"] = cpu
			continue
		case r.API.Name, r.Etcd.Name:
			m["cpuServer"] += cpu
			continue
		}
		m["cpu"] += cpu
		m["peakRSS"] += float64(u.Peak)
		m["peakRSS."+name] = float64(u.Peak)
	}
	r.mu.Lock()
	m["peakAnon"] = float64(r.anon)
	r.mu.Unlock()
	r.countWrites(before, after, m)
}

// countWrites adds up the controllers' requests. It leaves out leases, which
// are the price of having a standby.
func (r *run) countWrites(before, after reading, m report.Metrics) {
	for req, a := range after.requests {
		if !slices.Contains(testbed.ControllerUsers(), req.User) {
			continue
		}
		done := float64(a.Done - before.requests[req].Done)
		verb, resource, _ := strings.Cut(req.What, " ")
		switch {
		case verb == "get" || verb == "list" || verb == "watch":
			m["reads"] += done
			continue
		case resource == "leases":
			continue
		case resource == "events":
			m["events"] += done
			continue
		case resource == "daemonsets/status":
			m["statusWrites"] += done
		}
		m["writes"] += done
		m["refused"] += float64(a.Refused - before.requests[req].Refused)
	}
}

const (
	// tick is the unit in which the kernel counts processor time, in seconds.
	tick = 0.01
	// settleTime is how long the processes may take to come to rest.
	settleTime = 30 * time.Second
)

// settle waits until the compared processes have nothing left to do: until none
// of them has used more than two ticks for three quarters of a second.
func (r *run) settle(ctx context.Context) error {
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	began, last, quiet := time.Now(), -1.0, 0
	for quiet < 3 {
		select {
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var sum float64
		for _, p := range r.processes {
			u, err := usageOf(p.PID())
			if err != nil {
				return errors.Join(err, testbed.Alive(p))
			}
			sum += u.CPU
		}
		if quiet++; last < 0 || sum-last > 1.5*tick {
			quiet = 0
		}
		last = sum
		if time.Since(began) > settleTime {
			r.say("  the controllers do not come to rest")
			return nil
		}
	}
	return nil
}
