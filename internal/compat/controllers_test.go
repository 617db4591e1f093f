package compat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/kubernetes/pkg/controller/daemon"

	"everynode/internal/engine"
)

// controller is one of the two controllers that are compared.
type controller struct {
	name string
	// run runs it until ctx ends.
	run func(ctx context.Context, t *testing.T, config *rest.Config) error
}

var (
	upstream = controller{"upstream", runUpstream}
	ours     = controller{"ours", runEngine}
)

// both runs a test with each controller, each on its own cluster.
func both(t *testing.T, test func(t *testing.T, l *lab, c controller)) {
	for _, c := range []controller{upstream, ours} {
		t.Run(c.name, func(t *testing.T) { test(t, newLab(t), c) })
	}
}

func runUpstream(ctx context.Context, _ *testing.T, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	f := informers.NewSharedInformerFactory(client, 12*time.Hour)
	dsc, err := daemon.NewDaemonSetsController(ctx, f.Apps().V1().DaemonSets(), f.Apps().V1().ControllerRevisions(),
		f.Core().V1().Pods(), f.Core().V1().Nodes(), client, flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		return err
	}
	f.Start(ctx.Done())
	dsc.Run(ctx, 2)
	f.Shutdown()
	return nil
}

// runEngine runs the engine with only the rights that deploy/ gives it.
func runEngine(ctx context.Context, t *testing.T, config *rest.Config) error {
	g := newGuard()
	g.put(config)
	defer func() {
		for _, denied := range g.denials() {
			t.Errorf("the engine lacks a right: %s", denied)
		}
	}()
	var out io.Writer = io.Discard
	if os.Getenv("EVERYNODE_LOG") != "" {
		out = t.Output()
	}
	return engine.Run(ctx, engine.Config{Client: config, Log: slog.New(slog.NewTextHandler(out, nil))})
}

// running is a controller at work.
type running struct {
	*tap
	stop func() // idempotent; returns when the controller has ended
}

// start runs a controller until stop, or until the test ends.
func (l *lab) start(c controller) *running {
	l.t.Helper()
	config := rest.CopyConfig(l.config)
	config.QPS, config.UserAgent = -1, c.name
	r := &running{tap: &tap{counts: map[string]int{}}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) { return r.through(next, req) })
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.run(ctx, l.t, config); err != nil {
			l.t.Errorf("%s ended: %v", c.name, err)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		r.stall("")
		cancel()
		<-ended
	})
	l.t.Cleanup(r.stop)
	return r
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// tap sits between a controller and the API server. It counts the writes that
// succeed (not those that end in a conflict, or with a name that exists already),
// and lets a test refuse or delay requests and hold back watches.
type tap struct {
	mu      sync.Mutex
	counts  map[string]int // "POST pods", "PUT daemonsets/status"
	refuse  func(what string, body []byte) bool
	before  func(what string, req *http.Request)
	stalls  string // a resource, whose watches wait until stalled is closed; empty: none do
	stalled chan struct{}
	trace   []string // the writes with their answers, since forget
}

// podName matches a pod name of ours in an encoded pod.
var podName = regexp.MustCompile(`agent-[a-z0-9]{10}`)

// forget drops the trace, and recall returns it.
func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trace = nil
}

func (p *tap) recall() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.trace, "\n")
}

// what names a request by its method, resource and subresource.
func what(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) > i+2 {
		parts = parts[i+2:]
	} else {
		parts = parts[len(parts)-1:]
	}
	if len(parts) > 2 {
		return req.Method + " " + parts[0] + "/" + parts[2]
	}
	return req.Method + " " + parts[0]
}

func (p *tap) through(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	w := what(req)
	p.mu.Lock()
	refuse, before := p.refuse, p.before
	p.mu.Unlock()
	begun, subject := time.Now(), ""
	if w == "POST pods" && req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		subject = " " + string(podName.Find(body))
	}
	if before != nil {
		before(w, req)
	}
	if refuse != nil && req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		if refuse(w, body) {
			return forbidden(req), nil
		}
	}
	resp, err := next.RoundTrip(req)
	if err == nil && req.Method != http.MethodGet {
		p.mu.Lock()
		if resp.StatusCode < 300 {
			p.counts[w]++
		}
		p.trace = append(p.trace, fmt.Sprintf("%s to %s: %s %s%s: %d", begun.Format("05.000"), time.Now().Format("05.000"),
			req.Method, strings.TrimPrefix(req.URL.Path, "/api/v1/namespaces/"), subject, resp.StatusCode))
		p.mu.Unlock()
	}
	if resource, reads := strings.CutPrefix(w, "GET "); err == nil && reads && req.URL.Query().Get("watch") != "" {
		resp.Body = &heldBody{ReadCloser: resp.Body, tap: p, resource: resource, ctx: req.Context()}
	}
	return resp, err
}

// forbidden returns a refusal like that of an admission webhook.
func forbidden(req *http.Request) *http.Response {
	return status(req, http.StatusForbidden, metav1.StatusReasonForbidden, "refused by a webhook of the test")
}

// status returns an error response of the API server.
func status(req *http.Request, code int, reason metav1.StatusReason, message string) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, message, code)
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", reason), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}
}

// heldBody is the body of a watch that stall can hold back.
type heldBody struct {
	io.ReadCloser
	tap      *tap
	resource string
	ctx      context.Context
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.tap.mu.Lock()
	held, is := b.tap.stalled, b.tap.stalls == b.resource
	b.tap.mu.Unlock()
	if is {
		select {
		case <-held:
		case <-b.ctx.Done():
		}
	}
	return n, err
}

// stall holds back the events of a resource's watches, and releases those of the last one. The empty resource is none.
func (p *tap) stall(resource string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalls != "" {
		close(p.stalled)
	}
	p.stalls, p.stalled = resource, make(chan struct{})
}

func (p *tap) set(change func(*tap)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// tally returns the writes of a controller so far, without events.
func (p *tap) tally() tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := tally{}
	for w, n := range p.counts {
		if !strings.HasSuffix(w, " events") {
			out[w] = n
		}
	}
	return out
}

// tally is the number of writes, by method and resource.
type tally map[string]int

// of returns the number of writes to a resource.
func (c tally) of(resource string) (n int) {
	for w, k := range c {
		if _, r, _ := strings.Cut(w, " "); r == resource {
			n += k
		}
	}
	return n
}

func (c tally) total() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

func (c tally) add(o tally) {
	for w, n := range o {
		c[w] += n
	}
}

func (c tally) minus(o tally) tally {
	out := maps.Clone(c)
	for w, n := range o {
		if out[w] -= n; out[w] == 0 {
			delete(out, w)
		}
	}
	return out
}

func (c tally) String() string {
	var parts []string
	for _, w := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[w], w))
	}
	return strings.Join(parts, ", ")
}
