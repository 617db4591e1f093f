package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// server answers in place of the kubelets: `kubectl logs` and `kubectl exec` get a reason at once. It does
// not authenticate, because its answers contain only what the request contains.
type server struct {
	listener net.Listener
	http     *http.Server
}

// listen listens on a free port of 127.0.0.1.
func listen(certFile, keyFile string) (*server, error) {
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load the certificate of the simulated kubelets: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(nil); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(kubeletAddress, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the simulated kubelets: %w", err)
	}
	return &server{
		listener: tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load}),
		http: &http.Server{Handler: handler(), ReadHeaderTimeout: 10 * time.Second,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}, // clients that break off a handshake learn of it themselves
	}, nil
}

func (s *server) port() int32 { return int32(s.listener.Addr().(*net.TCPAddr).Port) }

// serve answers until ctx ends.
func (s *server) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() }) // Serve returns why it ended
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve for the simulated kubelets: %w", err)
	}
	return nil
}

// handler answers each part of a kubelet's API that concerns a pod with the reason why it has no data.
func handler() http.Handler {
	mux := http.NewServeMux()
	refuse := func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("pod %s/%s is on a simulated node: it has no containers, so there are no logs, and you cannot run anything in it or connect to it",
			r.PathValue("namespace"), r.PathValue("pod")), http.StatusBadRequest)
	}
	for _, what := range []string{"containerLogs", "exec", "attach", "portForward"} {
		mux.HandleFunc("/"+what+"/{namespace}/{pod}", refuse)
		mux.HandleFunc("/"+what+"/{namespace}/{pod}/{rest...}", refuse)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this node is simulated: its kubelet has no data", http.StatusNotFound)
	})
	return mux
}
