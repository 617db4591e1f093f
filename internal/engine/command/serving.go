package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/rest"

	"everynode/internal/engine"
)

// noServing is the address that switches the endpoints off.
const noServing = "0"

// checkServing refuses settings that would expose more than intended: nothing goes over
// a network unencrypted, and profiles go to known clients only.
func (s *settings) checkServing() error {
	if s.MetricsBindAddress == noServing {
		if s.Profiling {
			return errors.New("--profiling needs a --metrics-bind-address")
		}
		return nil
	}
	at, err := netip.ParseAddrPort(s.MetricsBindAddress)
	local := at.Addr().IsLoopback()
	switch {
	case err != nil:
		return fmt.Errorf("--metrics-bind-address %q: must be IP:PORT, or %s for none: %w", s.MetricsBindAddress, noServing, err)
	case (s.TLSCertFile == "") != (s.TLSPrivateKeyFile == ""):
		return errors.New("--tls-cert-file and --tls-private-key-file go together")
	case s.ClientCAFile != "" && s.TLSCertFile == "":
		return errors.New("--client-ca-file needs --tls-cert-file and --tls-private-key-file")
	case !local && s.TLSCertFile == "":
		return fmt.Errorf("--metrics-bind-address %s is not loopback: give --tls-cert-file and --tls-private-key-file", s.MetricsBindAddress)
	case !local && s.Profiling && s.ClientCAFile == "":
		return fmt.Errorf("--profiling shows what is in memory, and --metrics-bind-address %s is not loopback: give --client-ca-file", s.MetricsBindAddress)
	}
	return nil
}

// endpoints is the HTTP server of health, metrics and profiles.
type endpoints struct {
	server   *http.Server
	listener net.Listener
}

const (
	// stopTime is how long requests may take that are under way at the end.
	stopTime = 2 * time.Second
	// scrapeTime is how long a scrape may take: one that its client does not read
	// occupies one of four slots.
	scrapeTime = 10 * time.Second
)

// listen opens the address; nil if nothing is to be served.
func (s *settings) listen(ctx context.Context, client *rest.Config, m *engine.Monitor, log *slog.Logger) (*endpoints, error) {
	if s.MetricsBindAddress == noServing {
		return nil, nil
	}
	protect, err := s.protection(client, log)
	if err != nil {
		return nil, err
	}
	handler, err := s.handler(m, protect, log)
	if err != nil {
		return nil, err
	}
	config, err := s.tls(log)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.MetricsBindAddress)
	if err != nil {
		return nil, fmt.Errorf("--metrics-bind-address: %w; give another, or %s for none", err, noServing)
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	return &endpoints{listener: listener, server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}}, nil
}

// during serves while work runs, and ends both when either ends.
func (e *endpoints) during(ctx context.Context, work func(context.Context) error) error {
	if e == nil {
		return work(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- e.serve()
	}()
	err := work(ctx)
	return errors.Join(err, e.stop(ctx), <-served)
}

// serve serves until stop is called.
func (e *endpoints) serve() error {
	if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving health and metrics: %w", err)
	}
	return nil
}

// stop ends serve. A request that takes too long is cut off.
func (e *endpoints) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if e.server.Shutdown(ctx) == nil {
		return nil
	}
	return e.server.Close()
}

// handler routes the paths. Probes are open to everybody.
func (s *settings) handler(m *engine.Monitor, protect protection, log *slog.Logger) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", tell(m.Healthy, nil))
	mux.Handle("GET /readyz", tell(m.Ready, m.Notes))
	mux.Handle("GET /metrics", protect(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: scrapeTime})))
	if s.Profiling {
		mux.Handle("/debug/pprof/", protect(http.HandlerFunc(pprof.Index)))
		mux.Handle("/debug/pprof/cmdline", protect(http.HandlerFunc(pprof.Cmdline)))
		mux.Handle("/debug/pprof/profile", protect(http.HandlerFunc(pprof.Profile)))
		mux.Handle("/debug/pprof/symbol", protect(http.HandlerFunc(pprof.Symbol)))
		mux.Handle("/debug/pprof/trace", protect(http.HandlerFunc(pprof.Trace)))
	}
	return mux, nil
}

// tell answers "ok", or 503 with what is wrong. Notes, if not nil, follow either, one a line: a prober ignores them.
func tell(wrong func() error, notes func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := wrong(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
		} else {
			fmt.Fprintln(w, "ok")
		}
		if notes == nil {
			return
		}
		for _, note := range notes() {
			fmt.Fprintln(w, "note:", note)
		}
	})
}

// protection restricts a handler to clients that may see more than whether the engine
// is healthy.
type protection func(http.Handler) http.Handler

// protection returns a check for a client certificate if there is a CA for them,
// otherwise for a token, if this is served over TLS. Without TLS it is served only on
// loopback, to every local process.
func (s *settings) protection(client *rest.Config, log *slog.Logger) (protection, error) {
	switch {
	case s.ClientCAFile != "":
		return withCertificate, nil
	case s.TLSCertFile != "":
		r, err := newReviews(client, log)
		if err != nil {
			return nil, err
		}
		return r.protect, nil
	}
	return func(inner http.Handler) http.Handler { return inner }, nil
}

// withCertificate requires a client certificate, which TLS has verified.
func withCertificate(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "this needs a client certificate signed by the CA in --client-ca-file", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
}
