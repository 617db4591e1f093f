package compat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// faultProxy stands between controllers and the API server and makes the network bad,
// as determined by a seed.
type faultProxy struct {
	t      *testing.T
	next   http.RoundTripper
	target *url.URL
	seed   uint64
	trace  func(string)

	mu      sync.Mutex
	calm    chan struct{} // closed while there are no faults
	gates   uint64
	counts  map[string]int       // faults by kind
	written int                  // writes that succeeded, without events
	asked   map[string]time.Time // when the deletion of a pod was last requested, by the pod's name
	kept    map[string]time.Time // when a request to delete a pod last failed, by the pod's name
}

// The faults that a request can have.
const (
	noFault     = ""
	throttled   = "429"
	failed      = "500, not done"
	failedLate  = "500, yet done"
	lostRequest = "request lost"
	lostAnswer  = "answer lost"
	killBefore  = "killed before a write"
	killBetween = "killed before its answer"
	killAfter   = "killed after its answer"
)

// chance is how often a fault happens, in percent of the requests.
type chance struct {
	fault   string
	percent int
}

var (
	writeFaults = []chance{{throttled, 3}, {failed, 5}, {failedLate, 4}, {lostRequest, 6}, {lostAnswer, 7}}
	readFaults  = []chance{{throttled, 2}, {failed, 3}, {lostRequest, 3}}
)

const (
	slowPercent  = 25                     // of the requests
	slowest      = 400 * time.Millisecond // the longest delay
	watchQuiet   = 2 * time.Second        // a watch meets its next trouble within this time
	longestStall = 3 * time.Second
)

func newFaultProxy(t *testing.T, config *rest.Config, seed uint64, trace func(string)) *faultProxy {
	t.Helper()
	next, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatal(err)
	}
	calm := make(chan struct{})
	close(calm)
	return &faultProxy{t: t, next: next, target: target, seed: seed, trace: trace, calm: calm, counts: map[string]int{},
		asked: map[string]time.Time{}, kept: map[string]time.Time{}}
}

// faulty switches the faults on or off. Switching them off also ends the stall of a
// watch.
func (p *faultProxy) faulty(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.calm:
		if on {
			p.calm = make(chan struct{})
		}
	default:
		if !on {
			close(p.calm)
		}
	}
}

// peace is closed while there are no faults.
func (p *faultProxy) peace() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calm
}

func (p *faultProxy) isCalm() bool {
	select {
	case <-p.peace():
		return true
	default:
		return false
	}
}

func (p *faultProxy) count(fault string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[fault]++
}

func (p *faultProxy) tally() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

func (p *faultProxy) writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written
}

// askedAt returns when a controller asked to delete the pod: it had decided that
// before. If none has asked, it returns the current time.
func (p *faultProxy) askedAt(pod string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.asked[pod]; ok {
		return at
	}
	return time.Now()
}

// keptAt returns when a request to delete the pod last failed; zero: none has.
func (p *faultProxy) keptAt(pod string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[pod]
}

// gate is one process's connection to the API server.
type gate struct {
	name   string
	proxy  *faultProxy
	url    string
	random *rand.Rand // protected by mu
	served *http.Server

	mu    sync.Mutex
	kill  func()
	fuse  int    // after how many more writes the process is killed; 0: never
	where string // killBefore, killBetween or killAfter
	shutC chan struct{}
	hold  chan struct{}   // not nil: writes wait until it is closed
	held  int             // how many writes wait
	made  []time.Time     // when the writes that succeeded were forwarded
	cut   chan struct{}   // not nil: nothing gets through until it is closed
	calls map[string]int  // requests that got through, by kind: "PUT leases", "WATCH pods"
	apis  map[string]bool // the API versions that were used: "/api/v1", "/apis/apps/v1"
	busy  sync.WaitGroup
}

// open opens another gate.
func (p *faultProxy) open(name string) *gate {
	p.t.Helper()
	p.mu.Lock()
	p.gates++
	g := &gate{name: fmt.Sprintf("%s-%d", name, p.gates), proxy: p, random: rand.New(rand.NewPCG(p.seed, p.gates)), shutC: make(chan struct{}), calls: map[string]int{}, apis: map[string]bool{}}
	p.mu.Unlock()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	g.url = "http://" + listener.Addr().String()
	g.served = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = g.served.Serve(listener) // ends when the server is closed
	}()
	p.t.Cleanup(func() {
		g.shut()
		g.served.Close()
		<-ended
		g.busy.Wait()
	})
	return g
}

func (g *gate) attach(kill func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kill = kill
}

// light chooses the write at which the process is killed, from the next one to the
// one at longest.
func (g *gate) light(longest int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fuse = 1 + g.random.IntN(longest)
	g.where = []string{killBefore, killBetween, killAfter}[g.random.IntN(3)]
}

// quench lets the process live.
func (g *gate) quench() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fuse = 0
}

// shut lets nothing more through.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shutC:
	default:
		close(g.shutC)
	}
}

// drain waits until the requests that have passed are done. A lease gives the next
// leader the same guarantee: every request ends before it starts.
func (g *gate) drain() { g.busy.Wait() }

// holdWrites makes writes wait until the returned function is called.
func (g *gate) holdWrites() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.hold = held
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hold = nil
		close(held)
	})
}

func (g *gate) holding() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

func (g *gate) writes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.made)
}

// draw chooses what happens to a request.
func (g *gate) draw(faults []chance, counts bool) (fault string, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if counts && g.fuse > 0 {
		if g.fuse--; g.fuse == 0 {
			return g.where, 0
		}
	}
	n, slow, late := g.random.IntN(100), g.random.IntN(100), time.Duration(g.random.Int64N(int64(slowest)))
	if g.proxy.isCalm() {
		return noFault, 0
	}
	if slow < slowPercent {
		wait = late
	}
	for _, c := range faults {
		if n -= c.percent; n < 0 {
			return c.fault, wait
		}
	}
	return noFault, wait
}

// enter lets a request through, unless the gate is shut.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shutC:
		return false
	default:
		g.busy.Add(1)
		return true
	}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	switch {
	case req.Method == http.MethodGet && req.URL.Query().Get("watch") != "":
		g.watch(w, req)
	case req.Method == http.MethodGet:
		g.pass(w, req, body, readFaults, false)
	default:
		_, resource, _ := strings.Cut(what(req), " ")
		g.pass(w, req, body, writeFaults, resource != "events" && resource != "leases")
	}
}

// pass forwards one request, with the fault that was drawn for it. counts means that
// the request is a write at which a process may be killed.
func (g *gate) pass(w http.ResponseWriter, req *http.Request, body []byte, faults []chance, counts bool) {
	g.proxy.noteDelete(g.proxy.asked, req)
	fault, wait := g.draw(faults, counts)
	if wait > 0 {
		g.proxy.count("late")
		pause(req.Context(), wait)
	}
	if counts {
		g.queue()
	}
	if fault == killBefore {
		g.killed(req, body, fault)
	}
	g.connect(req)
	if !g.enter() {
		g.tell(req, body, "never sent, as the process is dead")
		panic(http.ErrAbortHandler)
	}
	defer g.busy.Done()
	g.called(what(req), req)
	if fault != noFault && fault != killBetween && fault != killAfter {
		g.proxy.count(fault)
		if counts {
			g.tell(req, body, fault)
		}
	}
	switch fault {
	case throttled, failed, lostRequest:
		g.proxy.noteDelete(g.proxy.kept, req)
	}
	switch fault {
	case throttled:
		refuse(w, http.StatusTooManyRequests, "TooManyRequests")
		return
	case failed:
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	case lostRequest:
		reset(w)
	}
	resp, answer := g.forward(req, body, counts)
	g.connect(req)
	switch fault {
	case killBetween:
		g.killed(req, body, fault)
	case failedLate:
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	case lostAnswer:
		reset(w)
	}
	copyHeader(w, resp)
	_, _ = w.Write(answer) // the sender may be gone
	if fault == killAfter {
		_ = http.NewResponseController(w).Flush()
		g.killed(req, body, fault)
	}
}

// noteDelete records the time in one of the proxy's maps, if the request deletes a
// pod.
func (p *faultProxy) noteDelete(in map[string]time.Time, req *http.Request) {
	if what(req) != "DELETE pods" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	in[path.Base(req.URL.Path)] = time.Now()
}

// queue waits while writes are held.
func (g *gate) queue() {
	g.mu.Lock()
	hold := g.hold
	if hold == nil {
		g.mu.Unlock()
		return
	}
	g.held++
	g.mu.Unlock()
	select {
	case <-hold:
	case <-g.shutC:
	}
	g.mu.Lock()
	g.held--
	g.mu.Unlock()
}

// killed kills the process, and breaks its connection.
func (g *gate) killed(req *http.Request, body []byte, where string) {
	g.proxy.count(where)
	g.tell(req, body, where)
	g.mu.Lock()
	kill := g.kill
	g.mu.Unlock()
	kill()
	panic(http.ErrAbortHandler)
}

// forward sends a request to the API server and waits for the whole answer, even if
// the process that sent it is dead by then.
func (g *gate) forward(req *http.Request, body []byte, counts bool) (*http.Response, []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), time.Minute)
	defer cancel()
	sent := time.Now()
	resp, err := g.proxy.next.RoundTrip(g.outbound(ctx, req, bytes.NewReader(body)))
	if err != nil {
		g.tell(req, body, err.Error())
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		g.tell(req, body, err.Error())
		panic(http.ErrAbortHandler)
	}
	if counts {
		g.tell(req, body, resp.Status)
		if resp.StatusCode < 300 {
			g.mu.Lock()
			g.made = append(g.made, sent)
			g.mu.Unlock()
			g.proxy.mu.Lock()
			g.proxy.written++
			g.proxy.mu.Unlock()
		}
	}
	return resp, answer
}

// outbound returns the request as it is sent to the API server.
func (g *gate) outbound(ctx context.Context, req *http.Request, body io.Reader) *http.Request {
	out := req.Clone(ctx)
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = g.proxy.target.Scheme, g.proxy.target.Host, ""
	out.Header.Del("Connection")
	out.Body = io.NopCloser(body)
	return out
}

// tell adds the result of a write to the trace.
func (g *gate) tell(req *http.Request, body []byte, outcome string) {
	subject := ""
	if req.Method == http.MethodPost {
		subject = " " + string(madeName.Find(body))
	}
	path := req.URL.Path
	if _, within, ok := strings.Cut(path, "/namespaces/"+namespace+"/"); ok {
		path = within
	}
	g.proxy.trace(fmt.Sprintf("%s: %s %s%s: %s", g.name, req.Method, path, subject, outcome))
}
