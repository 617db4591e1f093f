package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// serveTLS serves the fake API server on a real socket. As a real one does, it checks the dates of the client's
// certificate with each request.
func (f *fakeAPI) serveTLS(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		resp, err := respondError(apierrors.NewUnauthorized("Unauthorized"))
		if peers := req.TLS.PeerCertificates; len(peers) > 0 && time.Now().Before(peers[0].NotAfter) {
			resp, err = f.RoundTrip(req)
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		flushed := http.NewResponseController(w)
		for buf := make([]byte, 32<<10); err == nil; {
			var n int
			if err = flushed.Flush(); err != nil {
				return
			}
			n, err = resp.Body.Read(buf)
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
		}
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert} // the handler checks it
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// logText is a log that can be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// lastingFile returns a file that exists as long as the process does, and has no name that anybody would have to
// remove. client-go reads the files of a client's certificate again until the process ends, and logs each time that
// they do not exist.
func lastingFile(t *testing.T) string {
	t.Helper()
	named := filepath.Join(t.TempDir(), "file")
	fd, err := syscall.Open(named, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// A client certificate that expires while the engine runs is reported in words, by the log and by readiness,
// although the watches are still open; and when the file is renewed the engine continues by itself.
func TestClientCertificateExpires(t *testing.T) {
	transport.CertCallbackRefreshDuration = 50 * time.Millisecond
	c := &cluster{fakeAPI: newFakeAPI(), t: t, starts: 10 * time.Millisecond, stops: 10 * time.Millisecond, dead: map[string]bool{}}
	c.after = c.kubelet
	server := c.serveTLS(t)
	c.addNodes(3)
	c.addSet()
	certFile, keyFile := lastingFile(t), lastingFile(t)
	renew := func(until time.Duration) {
		cert, key := certificate(t, time.Now().Add(-time.Minute), time.Now().Add(until))
		if err := errors.Join(os.WriteFile(keyFile, key, 0o600), os.WriteFile(certFile, cert, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, cond func() bool) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(time.Minute); !cond(); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("it does not come about: %s", what)
			}
		}
	}
	m, log := NewMonitor(), &logText{}
	renew(time.Hour)
	c.start(func(cfg *Config) {
		cfg.Client = &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertFile: certFile, KeyFile: keyFile}}
		cfg.Monitor, cfg.Log = m, slog.New(slog.NewTextHandler(log, nil))
	})
	t.Cleanup(c.stop) // before the server, which waits for its watches
	until("three pods", func() bool { return len(c.pods()) == 3 && m.Ready() == nil })

	// However long it took to get here, and however long the new certificate takes to reach the connections: it
	// expires, and nothing has to be done before it does.
	renew(time.Second)
	expired := func() bool {
		err := m.Ready()
		return err != nil && strings.Contains(err.Error(), `the client certificate of "ada" expired on`) && strings.Contains(err.Error(), "renew "+certFile)
	}
	n := 3
	until("readiness says that the certificate has expired", func() bool {
		n++
		c.addNode(fmt.Sprintf("node-%02d", n)) // something to write
		return expired()
	})
	if err := m.Healthy(); err != nil {
		t.Errorf("a restart would not help, yet: %v", err)
	}
	renew(time.Hour)
	until("it is let in again", func() bool { return m.Ready() == nil })
	nodes := len(c.objects["nodes"])
	until("every node has its pod", func() bool { return len(c.pods()) == nodes })
	if refused, again := log.count("the API server rejects our credentials"), log.count("accepts our credentials again"); refused != 1 || again != 1 {
		t.Errorf("the log says %d times that it is refused, and %d times that it is let in again:\n%s", refused, again, log.text.String())
	}
}

// A request sent before the API server changed its mind does not show its current answer, and its answer to one
// client says nothing about another client, which has its own certificate and connections. The engine reports once
// that we are refused, and once that we no longer are.
func TestLateAnswer(t *testing.T) {
	log := &logText{}
	r := &requests{standings: map[*meter]*standing{}}
	one, two := &meter{as: &rest.Config{}, log: slog.New(slog.NewTextHandler(log, nil))}, &meter{as: &rest.Config{}, log: slog.New(slog.NewTextHandler(log, nil))}
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	for i, s := range []struct {
		by               *meter
		code, asked, now int
		refused          bool
	}{
		{one, http.StatusOK, 0, 1, false},
		{one, http.StatusUnauthorized, 1, 2, true},
		{one, http.StatusOK, 1, 3, true}, // it was late
		{two, http.StatusUnauthorized, 3, 4, true},
		{one, http.StatusOK, 3, 5, true}, // the other client is still refused
		{two, http.StatusOK, 5, 6, false},
		{one, http.StatusUnauthorized, 4, 7, false}, // it was late
		{two, http.StatusUnauthorized, 5, 7, false},
	} {
		r.noteIdentity(s.by, s.code, at(s.asked), at(s.now))
		if wrong := r.problems(); (len(wrong) > 0) != s.refused {
			t.Errorf("after answer %d: %v, want refused %v", i, wrong, s.refused)
		}
	}
	if refused, again := log.count("rejects our credentials"), log.count("accepts our credentials again"); refused != 1 || again != 1 {
		t.Errorf("the log says %d times that it is refused, and %d times that it is let in again:\n%s", refused, again, log.text.String())
	}
}

// Admission may answer a write with 401. Whether the API server accepts us shows in its answers to reads, and about the
// lease.
func TestAdmissionAnswers401(t *testing.T) {
	for _, s := range []struct {
		method, path string
		refused      bool
	}{
		{http.MethodPost, "/api/v1/namespaces/apps/pods", false},
		{http.MethodPatch, "/apis/apps/v1/namespaces/apps/daemonsets/agent/status", false},
		{http.MethodGet, "/api/v1/nodes", true},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/everynode-controller", true},
	} {
		m := NewMonitor()
		base := &rest.Config{Host: "https://192.0.2.1", Transport: answers(func(*http.Request) (*http.Response, error) {
			return respondError(apierrors.NewUnauthorized("denied by a policy"))
		})}
		transport, err := rest.TransportFor(m.metered(base, slog.New(slog.NewTextHandler(io.Discard, nil))))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), s.method, base.Host+s.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if wrong := m.requests.problems(); (len(wrong) > 0) != s.refused {
			t.Errorf("%s %s: %v, want refused %v", s.method, s.path, wrong, s.refused)
		}
	}
}

// answers is a function as a transport.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }
