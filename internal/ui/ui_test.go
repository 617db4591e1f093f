package ui

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"everynode/internal/fleetview"
)

// scripted is a Source that shows what the test tells it to.
type scripted struct {
	states  chan *fleetview.State
	failing chan string
	fails   chan error

	mu      sync.Mutex
	follows int
	stopped int
}

func newScripted() *scripted {
	return &scripted{states: make(chan *fleetview.State, 10), failing: make(chan string), fails: make(chan error, 1)}
}

func (s *scripted) Follow(ctx context.Context, show func(*fleetview.State), failing func(string)) error {
	s.mu.Lock()
	s.follows++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopped++
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fails:
			return err
		case why := <-s.failing:
			failing(why)
		case state := <-s.states:
			show(state)
		}
	}
}

func (s *scripted) counts() (follows, stopped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.follows, s.stopped
}

func (*scripted) Node(_ context.Context, name string) (*fleetview.NodeDetail, error) {
	if name != "a" {
		return nil, fmt.Errorf("node %s: %w", name, fleetview.ErrUnknown)
	}
	return &fleetview.NodeDetail{Name: name, Rows: []fleetview.Row{{Set: "apps/agent", Log: true}}}, nil
}

func (*scripted) Events(context.Context, string, string) (*fleetview.Events, error) {
	return nil, errors.New("the API server does not answer")
}

func (*scripted) Log(_ context.Context, namespace, name, node string) (*fleetview.Log, error) {
	return &fleetview.Log{Pod: namespace + "/" + name + "/" + node, Lines: []string{"<b>no</b>"}}, nil
}

// stateOf returns a State with one DaemonSet on one node.
func stateOf(at int64, state fleetview.CellState) *fleetview.State {
	return &fleetview.State{At: at, Reasons: []fleetview.Reason{{}}, Nodes: []fleetview.Node{{Name: "a"}}, Sets: []*fleetview.Set{{
		Head: fleetview.Head{Namespace: "apps", Name: "agent"}, Findings: []fleetview.Finding{}, Cells: fleetview.Cells{{State: state}}}}}
}

// running is a running server.
type running struct {
	*Server
	t      *testing.T
	base   string
	listen net.Listener
}

const testToken = Token("the-token-of-the-test")

func serve(t *testing.T, o Options, tune ...func(*hub)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o, testToken)
	for _, f := range tune {
		f(s.hub)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &running{s, t, "http://" + l.Addr().String(), l}
}

// ask makes a request with the token; change may modify it first.
func (r *running) ask(method, path, body string, change func(*http.Request)) *http.Response {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+string(testToken))
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(q)
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	all, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// The page itself is public, and contains no data. It loads everything from this server.
func TestPageAndHeaders(t *testing.T) {
	s := serve(t, Options{Source: newScripted(), Program: "everynode"})
	for path, kind := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/app.css": "text/css", "/favicon.svg": "image/svg+xml"} {
		r := s.ask("GET", path, "", func(q *http.Request) { q.Header.Del("Authorization") })
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s, %s", path, r.Status, r.Header.Get("Content-Type"))
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if body := text(t, r); strings.Contains(body, string(testToken)) || path == "/" && (strings.Contains(body, "<script>") || strings.Contains(body, "<style")) {
			t.Errorf("%s has the token, or a script or style in itself", path)
		}
	}
	if r := s.ask("GET", "/other", "", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", r.Status)
	}
}

// A request without the token, under another host name, or from the page of another site, gets no data.
func TestRefusals(t *testing.T) {
	s := serve(t, Options{Source: newScripted(), Program: "everynode"})
	port := s.listen.Addr().(*net.TCPAddr).Port
	for name, tc := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"as it should be":       {func(*http.Request) {}, 200},
		"of its own page":       {func(q *http.Request) { q.Header.Set("Origin", s.base); q.Header.Set("Sec-Fetch-Site", "same-origin") }, 200},
		"as localhost":          {func(q *http.Request) { q.Host = fmt.Sprintf("localhost:%d", port) }, 200},
		"no token":              {func(q *http.Request) { q.Header.Del("Authorization") }, 401},
		"another token":         {func(q *http.Request) { q.Header.Set("Authorization", "Bearer the-token-of-the-tess") }, 401},
		"a longer token":        {func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+string(testToken)+"x") }, 401},
		"not a bearer":          {func(q *http.Request) { q.Header.Set("Authorization", string(testToken)) }, 401},
		"token in the query":    {func(q *http.Request) { q.Header.Del("Authorization"); q.URL.RawQuery += "&token=" + string(testToken) }, 401},
		"another name":          {func(q *http.Request) { q.Host = "everynode.example.com" }, 421},
		"another name and port": {func(q *http.Request) { q.Host = fmt.Sprintf("rebound.example.com:%d", port) }, 421},
		"another port":          {func(q *http.Request) { q.Host = "127.0.0.1:1" }, 421},
		"another site":          {func(q *http.Request) { q.Header.Set("Origin", "https://example.com") }, 403},
		"a sandbox":             {func(q *http.Request) { q.Header.Set("Origin", "null") }, 403},
		"fetched by another":    {func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"another local port": {func(q *http.Request) {
			q.Header.Set("Origin", "http://127.0.0.1:1")
			q.Header.Set("Sec-Fetch-Site", "same-site")
		}, 403},
	} {
		if r := s.ask("GET", "/v1/node?name=a", "", tc.change); r.StatusCode != tc.want {
			t.Errorf("%s: %s, want %d", name, r.Status, tc.want)
		}
	}
	link := func(q *http.Request) {
		q.Header.Set("Sec-Fetch-Site", "cross-site")
		q.Header.Set("Sec-Fetch-Mode", "navigate")
	}
	if r := s.ask("GET", "/", "", link); r.StatusCode != http.StatusOK {
		t.Errorf("a link to the page: %s", r.Status)
	}
	if r := s.ask("GET", "/v1/node?name=a", "", link); r.StatusCode != http.StatusForbidden {
		t.Errorf("a link to an answer: %s", r.Status)
	}
}

// Without a token a request is refused, and an empty token does not count.
func TestTokens(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a == b || len(a) < 40 || strings.ContainsAny(string(a), "+/=#") {
		t.Errorf("tokens %q and %q", a, b)
	}
	if !a.is(string(a)) || a.is(string(b)) || Token("").is("") {
		t.Error("tokens are not compared")
	}
}

func TestOnlyLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Skipf("not even a listener: %v", err)
	}
	defer func() { _ = l.Close() }()
	if err := New(Options{Source: newScripted()}, testToken).Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("serving everybody: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	s := serve(t, Options{Source: newScripted(), Program: "everynode"})
	for path, want := range map[string]string{
		"/v1/node?name=a":                 `200 {"name":"a"`,
		"/v1/node?name=b":                 `404 {"error":"node b: it is not in the fleet"}`,
		"/v1/events?set=apps/agent":       `502 {"error":"the API server does not answer"}`,
		"/v1/events?set=agent":            `400 {"error":"set: give a DaemonSet as namespace/name"}`,
		"/v1/log?set=apps/agent&node=a":   `200 {"pod":"apps/agent/a","container":"","lines":["\u003cb\u003eno\u003c/b\u003e"]}`,
		"/v1/action?set=apps/agent":       `405 `,
		"/v1/log?set=apps%2Fagent&node=b": `200 {"pod":"apps/agent/b"`,
	} {
		r := s.ask("GET", path, "", nil)
		if got := fmt.Sprintf("%d %s", r.StatusCode, text(t, r)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// Actions are refused unless they were allowed, and arrive as the page has sent them.
func TestActions(t *testing.T) {
	s := serve(t, Options{Source: newScripted(), Program: "everynode"})
	const abort = `{"verb":"abort","release":4,"target":"7c9f"}`
	if r := s.ask("POST", "/v1/action?set=apps/agent", abort, nil); r.StatusCode != http.StatusForbidden || !strings.Contains(text(t, r), "--allow-actions") {
		t.Errorf("an action that was not allowed: %s", r.Status)
	}
	var got []fleetview.Action
	allowed := serve(t, Options{Source: newScripted(), Program: "everynode", Act: func(_ context.Context, namespace, name string, a fleetview.Action) (string, error) {
		got = append(got, a)
		if a.Release == 5 {
			return "", errors.New("this was about another release")
		}
		return namespace + "/" + name + " is aborted", nil
	}})
	r := allowed.ask("POST", "/v1/action?set=apps/agent", abort, nil)
	if said := text(t, r); said != `{"said":"apps/agent is aborted"}` || len(got) != 1 || got[0] != (fleetview.Action{Verb: "abort", Release: 4, Target: "7c9f"}) {
		t.Errorf("%s %s, %+v", r.Status, said, got)
	}
	for body, want := range map[string]int{`{"verb":"abort","release":5}`: 409, `{"verb":"abort","and":"more"}`: 400, `verb=abort`: 400} {
		if r := allowed.ask("POST", "/v1/action?set=apps/agent", body, nil); r.StatusCode != want {
			t.Errorf("%s: %s, want %d", body, r.Status, want)
		}
	}
	form := func(q *http.Request) { q.Header.Set("Content-Type", "text/plain") }
	if r := allowed.ask("POST", "/v1/action?set=apps/agent", abort, form); r.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("as a form of another site could send it: %s", r.Status)
	}
}

// viewer reads a stream.
type viewer struct {
	t     *testing.T
	lines *bufio.Scanner
	stop  func()
}

func (r *running) view() *viewer {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	answer := r.ask("GET", "/v1/stream", "", func(q *http.Request) { *q = *q.WithContext(ctx) })
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("the stream: %s, %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	v := &viewer{r.t, bufio.NewScanner(answer.Body), stop}
	v.lines.Buffer(nil, 1<<20)
	return v
}

// next returns the next event.
func (v *viewer) next() (kind, data string) {
	v.t.Helper()
	for v.lines.Scan() {
		line := v.lines.Text()
		if after, ok := strings.CutPrefix(line, "event: "); ok {
			kind = after
		}
		if after, ok := strings.CutPrefix(line, "data: "); ok {
			data = after
		}
		if line == "" {
			return kind, data
		}
	}
	v.t.Fatalf("the stream has ended: %v", v.lines.Err())
	return "", ""
}

func (v *viewer) want(kind, part string) string {
	v.t.Helper()
	k, data := v.next()
	if k != kind || !strings.Contains(data, part) {
		v.t.Fatalf("%s %s, want %s with %s", k, data, kind, part)
	}
	return data
}

// A viewer first gets what the server is, then the whole state, and then what changes. A second viewer joins what is
// already being followed.
func TestStream(t *testing.T) {
	source := newScripted()
	s := serve(t, Options{Source: source, Program: "kubectl everynode"})
	v := s.view()
	v.want("about", `"program":"kubectl everynode","actions":false`)
	source.states <- stateOf(1, fleetview.Old)
	v.want("state", `"cells":"200"`)
	source.states <- stateOf(2, fleetview.New)
	v.want("change", `{"at":2,"sets":{"apps/agent":{"cells":{"0":"100"}}}}`)
	second := s.view()
	second.want("about", "")
	second.want("state", `"cells":"100"`)
	source.states <- stateOf(3, fleetview.New) // the same except for the time
	source.states <- stateOf(4, fleetview.Failing)
	v.want("change", `"at":4`)
	second.want("change", `"at":4`)
	if follows, _ := source.counts(); follows != 1 {
		t.Errorf("two viewers, and the fleet is followed %d times", follows)
	}
}

// While nobody looks nothing is followed, and an old state is not shown as if it were new.
func TestNobodyLooks(t *testing.T) {
	source := newScripted()
	s := serve(t, Options{Source: source, Program: "everynode"}, func(h *hub) { h.linger = 10 * time.Millisecond })
	if follows, _ := source.counts(); follows != 0 {
		t.Error("the fleet is followed, and nobody looks")
	}
	v := s.view()
	source.states <- stateOf(1, fleetview.Old)
	v.want("about", "")
	v.want("state", "")
	v.stop()
	until(t, "the watch has ended", func() bool { _, stopped := source.counts(); return stopped == 1 })
	if seen, _ := s.hub.now(); seen.state != nil {
		t.Error("what was seen before is kept")
	}
	again := s.view()
	again.want("about", "")
	source.states <- stateOf(5, fleetview.New)
	again.want("state", `"at":5`)
}

// Failures are shown, and retried.
func TestFailure(t *testing.T) {
	source := newScripted()
	s := serve(t, Options{Source: source, Program: "everynode"}, func(h *hub) { h.retry = 10 * time.Millisecond })
	v := s.view()
	v.want("about", "")
	source.fails <- errors.New("pods are forbidden")
	v.want("failure", `{"error":"pods are forbidden"}`)
	source.states <- stateOf(1, fleetview.New)
	v.want("state", "")
	source.fails <- errors.New("the connection broke")
	v.want("failure", "the connection broke")
	source.states <- stateOf(2, fleetview.New)
	v.want("state", `"at":2`) // the whole state: places of nodes may have changed
}

// While nothing can be read, the page says why, and the source is left to go on.
func TestNothingReadYet(t *testing.T) {
	source := newScripted()
	s := serve(t, Options{Source: source, Program: "everynode"})
	v := s.view()
	v.want("about", "")
	source.failing <- "since 14:03:11, trying again: pods: no space"
	v.want("failure", `{"error":"since 14:03:11, trying again: pods: no space"}`)
	source.states <- stateOf(1, fleetview.New)
	v.want("state", `"at":1`)
	if follows, stopped := source.counts(); follows != 1 || stopped != 0 {
		t.Errorf("the fleet was followed %d times, and left %d times", follows, stopped)
	}
}

// A recording can be played, with the answers about findings.
func TestRecordAndReplay(t *testing.T) {
	source := newScripted()
	var file lockedBuffer
	serve(t, Options{Source: source, Program: "everynode", Record: &file})
	first := stateOf(1, fleetview.Starting)
	failing := stateOf(2, fleetview.Failing)
	failing.Sets[0].Findings = []fleetview.Finding{{ID: 1, State: 6, Node: "a", Nodes: 1, Text: "CrashLoopBackOff", Log: true}}
	source.states <- first
	until(t, "the first state is written", func() bool { return strings.Count(file.String(), "\n") == 2 })
	written := time.Now().UnixMilli()
	until(t, "a state of this millisecond would take the place of the first", func() bool { return time.Now().UnixMilli() > written })
	source.states <- failing
	until(t, "the answers are written", func() bool { return strings.Count(file.String(), "\n") == 5 })
	recording, err := Read(strings.NewReader(file.String()), Playing{Speed: 1000})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan *fleetview.State, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- recording.Follow(ctx, func(s *fleetview.State) { seen <- s }, nil) }()
	for _, want := range []*fleetview.State{first, failing} {
		got := <-seen
		if a, b := encode(t, got), encode(t, want); a != b {
			t.Errorf("%s was played, not %s", a, b)
		}
	}
	until(t, "the log was reached", func() bool {
		l, err := recording.Log(ctx, "apps", "agent", "a")
		return err == nil && len(l.Lines) == 1
	})
	if n, err := recording.Node(ctx, "a"); err != nil || n.Name != "a" || !n.Rows[0].Log {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := recording.Node(ctx, "b"); !errors.Is(err, fleetview.ErrUnknown) {
		t.Errorf("what nobody asked: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A fleet can be recorded without a page being served.
func TestRecord(t *testing.T) {
	source := newScripted()
	var file lockedBuffer
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Record(ctx, source, &file) }()
	source.states <- stateOf(1, fleetview.Old)
	until(t, "the first state is written", func() bool { return strings.Count(file.String(), "\n") == 2 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if follows, stopped := source.counts(); follows != 1 || stopped != 1 {
		t.Errorf("the fleet was followed %d times, and left %d times", follows, stopped)
	}
	if _, err := Read(strings.NewReader(file.String()), Playing{Speed: 1}); err != nil {
		t.Error(err)
	}
}

// stuck is a fleet whose kubelets do not answer.
type stuck struct{ *scripted }

func (stuck) Log(ctx context.Context, _, _, _ string) (*fleetview.Log, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A kubelet that does not answer does not end a recording, and the replay offers nothing that was not recorded.
func TestNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		source := stuck{newScripted()}
		r := &recorder{s: New(Options{Source: source}, testToken), out: json.NewEncoder(&file), began: time.Now(), asked: map[question]bool{}}
		if err := r.out.Encode(heading{recordingName, fleetview.Version}); err != nil {
			t.Fatal(err)
		}
		failing := stateOf(2, fleetview.Failing)
		failing.Sets[0].Findings = []fleetview.Finding{{ID: 1, State: 6, Node: "a", Nodes: 1, Text: "CrashLoopBackOff", Log: true}}
		more := *failing.Sets[0]
		more.Findings = []fleetview.Finding{{ID: 1, State: 6, Node: "a", Nodes: 2, Text: "CrashLoopBackOff", Log: true}}
		later := &fleetview.State{At: 3, Nodes: failing.Nodes, Sets: []*fleetview.Set{&more}}
		for _, m := range []*message{{"state", failing}, {"change", fleetview.Between(failing, later)}} {
			if err := r.take(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		recording, err := Read(&file, Playing{Speed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if f := recording.entries[0].State.Sets[0].Findings[0]; f.Log {
			t.Error("a log is offered that was not recorded")
		}
		if last := recording.entries[len(recording.entries)-1].Change; last == nil || last.Sets["apps/agent"].Found[0].Log {
			t.Errorf("a log is offered that was not recorded: %+v", last)
		}
		if _, err := recording.Log(t.Context(), "apps", "agent", "a"); !errors.Is(err, fleetview.ErrUnknown) || err.Error() != "it was not recorded" {
			t.Errorf("the log: %v", err)
		}
		if n, err := recording.Node(t.Context(), "a"); err != nil || n.Name != "a" || n.Rows[0].Log {
			t.Errorf("what was asked after it: %+v, %v", n, err)
		}
	})
}

// A recording can be started in the middle, with the state of that time.
func TestReplayFrom(t *testing.T) {
	var file bytes.Buffer
	out := json.NewEncoder(&file)
	for _, line := range []any{heading{recordingName, fleetview.Version}, entry{At: 5, State: stateOf(1, fleetview.Old)},
		entry{At: 1005, Change: fleetview.Between(stateOf(1, fleetview.Old), stateOf(2, fleetview.Starting))},
		entry{At: 1006, Path: nodePath("a"), Answer: json.RawMessage(`{"name":"a"}`)},
		entry{At: 3_600_005, Change: fleetview.Between(stateOf(2, fleetview.Starting), stateOf(3, fleetview.New))}} {
		if err := out.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	file.WriteString(`{"at":3600006,"cha`) // the power was cut
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	if _, err := file.WriteTo(gz); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	recording, err := Read(&packed, Playing{Speed: 1, From: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	seen, ended := make(chan *fleetview.State, 10), make(chan error, 1)
	go func() { ended <- recording.Follow(ctx, func(s *fleetview.State) { seen <- s }, nil) }()
	if got := <-seen; got.At != 2 || got.Sets[0].Cells[0].State != fleetview.Starting {
		t.Errorf("half a minute in it is %+v", got)
	}
	stop()
	if err := <-ended; err != nil || len(seen) > 0 {
		t.Errorf("%v, and %d more", err, len(seen))
	}
}

// At ten times the speed a recording takes a tenth of the time, and at a tenth of the speed ten times as long.
func TestReplaySpeed(t *testing.T) {
	for speed, want := range map[float64]time.Duration{10: time.Second, 1: 10 * time.Second, 0.1: 100 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			change := fleetview.Between(stateOf(1, fleetview.Old), stateOf(2, fleetview.New))
			recording := &Recording{entries: []entry{{At: 5, State: stateOf(1, fleetview.Old)}, {At: 10_005, Change: change}}, how: Playing{Speed: speed}}
			ctx, stop := context.WithCancel(t.Context())
			began, shown := time.Now(), []time.Duration{}
			err := recording.Follow(ctx, func(*fleetview.State) {
				if shown = append(shown, time.Since(began)); len(shown) == 2 {
					stop()
				}
			}, nil)
			if err != nil || len(shown) != 2 || shown[0] != 0 || shown[1] != want {
				t.Errorf("at speed %v it is shown after %v, want %s (%v)", speed, shown, want, err)
			}
		})
	}
}

func TestUnreadableRecordings(t *testing.T) {
	const head = `{"recording":"everynode fleet","version":1}` + "\n"
	for file, want := range map[string]string{
		"":     "not a recording",
		"{}\n": "not a recording",
		head:   "is empty",
		"x\n":  "not a recording",
		`{"recording":"everynode fleet","version":2}` + "\n": "version 2",
		head + "{\n{}\n": "line 2",
		head + `{"at":1,"change":{"at":1}}` + "\n": "no earlier line contains",
	} {
		if _, err := Read(strings.NewReader(file), Playing{Speed: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
}

// lockedBuffer is written by a server and read by its test.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// until waits for something that happens by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-limit.C:
			t.Fatal("it did not come: " + what)
		case <-tick.C:
		}
	}
}
