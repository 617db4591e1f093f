package balancer

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func TestParsePublication(t *testing.T) {
	for text, want := range map[string]string{
		"8080:80":         "127.0.0.1:8080:80",
		"0.0.0.0:8080:80": "0.0.0.0:8080:80",
		"[::1]:8080:80":   "[::1]:8080:80",
		"":                "", "80": "", "a:80": "", "80:a": "", "0:80": "", "80:0": "", "80:70000": "", "70000:80": "", "host:80:80": "",
	} {
		p, err := ParsePublication(text)
		if (err == nil) != (want != "") || err == nil && p.String() != want {
			t.Errorf("%q is %v, %v; want %q", text, p, err, want)
		}
	}
}

// The service has an address of this machine, where an echo server listens.
func TestPublish(t *testing.T) {
	service, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		if runtime.GOOS != "linux" {
			t.Skip("only on Linux is all of 127.0.0.0/8 this machine's: ", err)
		}
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		connection, err := service.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = io.Copy(connection, connection) // until the client has said all
	}()
	defer func() { service.Close(); <-echoed }()

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	port := int32(service.Addr().(*net.TCPAddr).Port)
	web := balanced("web")
	web.Spec.Ports = []corev1.ServicePort{{Port: port, Protocol: corev1.ProtocolTCP}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, fake.NewClientset(web), Config{Range: Range{addr("127.0.0.2"), addr("127.0.0.2")}, Routes: &keptRoutes{},
			Publications: []Publication{{Listen: netip.AddrPortFrom(listen.Addr(), listen.Port()), Port: port}}, Log: slog.New(slog.DiscardHandler)})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "what is sent comes back", func(context.Context) (bool, error) {
		connection, err := net.Dial("tcp", listen.String())
		if err != nil {
			return false, nil
		}
		defer connection.Close()
		if _, err := io.Copy(connection, strings.NewReader("hello")); err != nil {
			return false, nil
		}
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			return false, nil
		}
		got, err := io.ReadAll(connection)
		return err == nil && string(got) == "hello", nil
	})
}

// full is a listener of a process that has too many files open: after failures it accepts
// one connection, and then waits as Listener does.
type full struct {
	net.Listener
	failures int
	one      chan net.Conn
}

func (f *full) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	select {
	case c := <-f.one:
		return c, nil
	default:
		return f.Listener.Accept()
	}
}

// TestPublishGoesOn: a publication goes on after its port could not accept connections for a moment.
func TestPublishGoesOn(t *testing.T) {
	real, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken, ours := net.Pipe()
	f := &full{Listener: real, failures: 2, one: make(chan net.Conn, 1)}
	f.one <- taken
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	b := &balancer{services: factory.Core().V1().Services().Lister(), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.accept(ctx, f, Publication{Port: 80}) }()
	// No service has the port, so the connection is accepted and closed.
	if _, err := ours.Read(make([]byte, 1)); err == nil {
		t.Error("somebody has said something")
	}
	select {
	case err := <-ended:
		t.Fatalf("the port ended: %v", err)
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPublishEnds: a listener that somebody has closed is an error.
func TestPublishEnds(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	b := &balancer{log: slog.New(slog.DiscardHandler)}
	if err := b.accept(t.Context(), closed, Publication{Port: 80}); err == nil {
		t.Error("nothing is said of a port that is closed")
	}
}

// TestRelayIdle: two ends are disconnected once both are silent, but not while one of them sends.
func TestRelayIdle(t *testing.T) {
	client, a := net.Pipe()
	service, b := net.Pipe()
	ended := make(chan struct{})
	const idle = 300 * time.Millisecond
	go func() { defer close(ended); relay(t.Context(), b, a, idle) }()
	begin := time.Now()
	tick := time.NewTicker(idle / 3)
	defer tick.Stop()
	for range 6 {
		<-tick.C
		go func() { _, _ = service.Write([]byte("x")) }()
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatalf("after %s of talk: %v", time.Since(begin), err)
		}
	}
	<-ended
	if took := time.Since(begin); took < 2*idle {
		t.Errorf("they were parted after %s, in the middle of their talk", took)
	}
}
