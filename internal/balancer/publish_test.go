package balancer

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

// A service whose address is one of this machine's, with an echo behind it.
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
