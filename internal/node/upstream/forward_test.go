package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/util/cert"
)

// apiStub is an API server as far as the forwarder can tell: /readyz, /name, and
// /hold, which answers and then keeps the connection open.
type apiStub struct {
	*httptest.Server
	name   string
	silent atomic.Bool // accepts connections and answers nothing
	broken atomic.Bool // is not ready
	done   chan struct{}
}

// authority is a certificate for this machine, and the CA that makes clients trust
// it.
type authority struct {
	serving tls.Certificate
	pem     []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	chain, key, err := cert.GenerateSelfSignedCertKey(loopback, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{serving, chain}
}

// deadAddress is an address of this machine at which nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newAPIStub(t *testing.T, ca authority, name string) *apiStub {
	t.Helper()
	s := &apiStub{name: name, done: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.serving}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.kill)
	return s
}

// kill ends the server as a crash does.
func (s *apiStub) kill() {
	select {
	case <-s.done:
		return
	default:
		close(s.done)
	}
	s.CloseClientConnections()
	s.Close()
}

func (s *apiStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.silent.Load():
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case s.broken.Load() && r.URL.Path == "/readyz":
		http.Error(w, "not ready", http.StatusInternalServerError)
	case r.URL.Path == "/hold":
		fmt.Fprintln(w, s.name)
		_ = http.NewResponseController(w).Flush() // the client shows whether it came
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	default:
		fmt.Fprintln(w, s.name)
	}
}

func (s *apiStub) address() string { return s.Listener.Addr().String() }

// forwarding is a forwarder under test, and a client of it that trusts ca.
type forwarding struct {
	*Forwarder
	client *http.Client
}

func startForwarder(t *testing.T, ca authority, dataDir string, servers ...string) *forwarding {
	t.Helper()
	f, err := NewForwarder(Options{Node: "node-1", Given: servers, File: filepath.Join(dataDir, "servers.json"), CA: ca.pem, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.pem)
	return &forwarding{Forwarder: f, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
	}}}
}

// ask returns the name of the server that answers through the forwarder.
func (f *forwarding) ask(t *testing.T) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL()+"/name", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	name, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(name)), err
}

// hold opens a connection that its server keeps open. It returns the server's name,
// and a channel that receives how the connection ended.
func (f *forwarding) hold(t *testing.T) (name string, ended <-chan error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL()+"/hold", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(resp.Body)
	name, err = reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		_, err := reader.ReadByte()
		end <- errors.Join(err, resp.Body.Close())
	}()
	return strings.TrimSpace(name), end
}

// pairOf starts two servers and a forwarder to them. The first is the one that
// the forwarder uses.
func pairOf(t *testing.T) (first, second *apiStub, f *forwarding) {
	t.Helper()
	ca := newAuthority(t)
	first, second = newAPIStub(t, ca, "a"), newAPIStub(t, ca, "b")
	f = startForwarder(t, ca, t.TempDir(), first.address(), second.address())
	if f.order()[0] == second.address() {
		first, second = second, first
	}
	name, err := f.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	if name != first.name { // the machine was busy, and the other answered earlier
		first, second = second, first
	}
	return first, second, f
}

func TestForwarderFailsOver(t *testing.T) {
	first, second, f := pairOf(t)
	name, ended := f.hold(t)
	if name != first.name {
		t.Fatalf("a connection goes to %s, not to the server in use, %s", name, first.name)
	}
	first.kill()
	if err := <-ended; err == nil {
		t.Error("the connection to a server that was killed did not break")
	}
	if name, err := f.ask(t); name != second.name {
		t.Errorf("after the server in use was killed %q answers (%v), not %s", name, err, second.name)
	}
}

// A server that accepts connections but answers nothing, because its process hangs,
// is found by probes. Connections to it are cut.
func TestForwarderCutsConnectionsOfDeadServer(t *testing.T) {
	for _, how := range []string{"silent", "not ready"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			first, second, f := pairOf(t)
			name, ended := f.hold(t)
			if name != first.name {
				t.Fatalf("a connection goes to %s", name)
			}
			begin := time.Now()
			first.silent.Store(how == "silent")
			first.broken.Store(how != "silent")
			limit := time.NewTimer(30 * time.Second)
			defer limit.Stop()
			select {
			case err := <-ended:
				t.Logf("cut after %s: %v", time.Since(begin).Round(time.Millisecond), err)
			case <-limit.C:
				t.Fatal("the connection to the dead server is still there")
			}
			if name, err := f.ask(t); name != second.name {
				t.Errorf("%q answers (%v), not %s", name, err, second.name)
			}
		})
	}
}

// If no server is ready, no connection is cut: the server in use is as good as any.
func TestForwarderKeepsWhatItHas(t *testing.T) {
	first, second, f := pairOf(t)
	name, ended := f.hold(t)
	first.broken.Store(true)
	second.broken.Store(true)
	f.replace(t.Context(), first.address(), errors.New("it is not ready"))
	if got, err := f.ask(t); err != nil || got != name {
		t.Errorf("%q answers (%v), not %s", got, err, name)
	}
	select {
	case err := <-ended:
		t.Errorf("a connection was cut although no server is better: %v", err)
	default:
	}
}

// An agent that restarts uses the servers that the cluster has listed, although
// none of those on its command line is left, and listens at the same port.
func TestForwarderRemembersServers(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	given, listed := newAPIStub(t, ca, "given"), newAPIStub(t, ca, "listed")
	f := startForwarder(t, ca, dir, given.address())
	if name, err := f.ask(t); name != "given" {
		t.Fatalf("%q answers: %v", name, err)
	}
	if err := f.learn([]string{listed.address()}); err != nil {
		t.Fatal(err)
	}
	port := f.port()
	f.end()
	given.kill()
	again := startForwarder(t, ca, dir, given.address())
	if again.port() != port {
		t.Errorf("port %d, it was %d", again.port(), port)
	}
	if name, err := again.ask(t); name != "listed" {
		t.Errorf("%q answers (%v), not the remembered server", name, err)
	}
}

// The forwarder sends no request to another program at the address of a former
// server.
func TestForwarderKnowsItsCluster(t *testing.T) {
	ca := newAuthority(t)
	foreign, own := newAPIStub(t, newAuthority(t), "foreign"), newAPIStub(t, ca, "own")
	f := startForwarder(t, ca, t.TempDir(), foreign.address(), own.address())
	if name, err := f.ask(t); name != "own" {
		t.Errorf("%q answers: %v", name, err)
	}
}

// Without any server a connection ends at once, and does not hang.
func TestForwarderWithoutServers(t *testing.T) {
	ca := newAuthority(t)
	f := startForwarder(t, ca, t.TempDir(), deadAddress(t), deadAddress(t))
	begin := time.Now()
	if name, err := f.ask(t); err == nil {
		t.Errorf("%q answers", name)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s to find out", took)
	}
}

// The forwarder copes with a port that is taken.
func TestForwarderTakesAnotherPort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := Options{File: filepath.Join(t.TempDir(), "servers.json"), Log: slog.New(slog.DiscardHandler)}
	taken := l.Addr().(*net.TCPAddr).Port
	if err := (Remembered{Port: taken, Servers: []string{"192.0.2.1:6443"}}).write(o.File); err != nil {
		t.Fatal(err)
	}
	f, err := NewForwarder(o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.end()
	if got := Recall(o.File, o.Log); got.Port == taken || got.Port != f.port() || len(got.Servers) != 1 {
		t.Errorf("remembered: %+v; want the new port %d, and the server", got, f.port())
	}
}

func TestServerListOrder(t *testing.T) {
	l := serverList{given: []string{"a:1", "b:1"}, listed: []string{"b:1", "c:1"}, former: []string{"d:1", "a:1"}}
	got := l.order("node-1")
	if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, []string{"a:1", "b:1", "c:1", "d:1"}) || got[3] != "d:1" {
		t.Errorf("order %v: want each once, and the former one last", got)
	}
	first := map[string]int{}
	for i := range 3000 {
		first[l.order(fmt.Sprint("node-", i))[0]]++
	}
	for _, server := range []string{"a:1", "b:1", "c:1"} {
		if first[server] < 800 || first[server] > 1200 {
			t.Errorf("%d of 3000 nodes use %s first", first[server], server)
		}
	}
}

func TestServerListRemembers(t *testing.T) {
	l := serverList{given: []string{"g:1"}}
	for i := range 40 {
		l = l.with([]string{fmt.Sprintf("s%d:1", i)})
	}
	if l.listed[0] != "s39:1" || l.former[0] != "s38:1" || len(l.former) != maxFormer {
		t.Errorf("listed %v, former %v", l.listed, l.former)
	}
	if l = l.with([]string{"s38:1", "s39:1"}); slices.Contains(l.former, "s38:1") {
		t.Errorf("a server that is back is among the former ones: %v", l.former)
	}
}

// A node that had to leave its first choice returns to it after a while, when that
// is ready. Otherwise all nodes would stay where they went.
func TestForwarderGoesHome(t *testing.T) {
	first, second, f := pairOf(t)
	if f.order()[0] != first.address() {
		first, second = second, first
	}
	f.use(second.address(), errors.New("a test"))
	f.goHome(t.Context(), second.address(), time.Hour)
	if f.now() != second.address() {
		t.Error("it returns at once")
	}
	first.broken.Store(true)
	f.goHome(t.Context(), second.address(), 0)
	if f.now() != second.address() {
		t.Error("it returns to a server that is not ready")
	}
	first.broken.Store(false)
	f.goHome(t.Context(), second.address(), 0)
	if f.now() != first.address() {
		t.Error("it does not return")
	}
}

func TestServersOf(t *testing.T) {
	https, port := "https", int32(6443)
	slice := func(family discoveryv1.AddressType, ready bool, addresses ...string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			AddressType: family,
			Ports:       []discoveryv1.EndpointPort{{Name: &https, Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		}
	}
	got := serversOf([]*discoveryv1.EndpointSlice{
		slice(discoveryv1.AddressTypeIPv4, true, "192.0.2.12", "192.0.2.11"),
		slice(discoveryv1.AddressTypeIPv4, false, "192.0.2.13"),
		slice(discoveryv1.AddressTypeIPv6, true, "fd00::11"),
		slice(discoveryv1.AddressTypeFQDN, true, "host.example"),
	})
	if want := []string{"192.0.2.11:6443", "192.0.2.12:6443", "[fd00::11]:6443"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
