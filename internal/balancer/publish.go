package balancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// dialTime bounds how long a service may take to accept a connection.
	dialTime = 10 * time.Second
	// carriedAtOnce bounds the connections of a published port, because each takes two file descriptors
	// of the process, which is also the API server. More connections wait.
	carriedAtOnce = 1000
	// idleTime is how long a connection may be idle before it is closed to make room.
	idleTime = time.Hour
	// acceptPause is how long to wait after a connection could not be accepted.
	acceptPause = 250 * time.Millisecond
)

// Publication is a TCP port of this machine, Listen, that leads to the service of type
// LoadBalancer that has Port. If several have it, it leads to the oldest.
type Publication struct {
	Listen netip.AddrPort
	Port   int32
}

// ParsePublication reads [ADDRESS:]PORT:SERVICEPORT. Without an address it is for
// this machine alone, 127.0.0.1.
func ParsePublication(text string) (Publication, error) {
	fail := fmt.Errorf("%q is not a published port: give PORT:SERVICEPORT, such as 8080:80, or ADDRESS:PORT:SERVICEPORT", text)
	cut := strings.LastIndex(text, ":")
	if cut < 0 {
		return Publication{}, fail
	}
	listen := text[:cut]
	if !strings.Contains(listen, ":") {
		listen = "127.0.0.1:" + listen
	}
	address, err := netip.ParseAddrPort(listen)
	port, portErr := strconv.ParseUint(text[cut+1:], 10, 16)
	if err != nil || portErr != nil || address.Port() == 0 || port == 0 {
		return Publication{}, fail
	}
	return Publication{Listen: address, Port: int32(port)}, nil
}

// String returns ADDRESS:PORT:SERVICEPORT.
func (p Publication) String() string { return fmt.Sprintf("%s:%d", p.Listen, p.Port) }

// publish listens for one publication until ctx ends, and then waits for its connections.
func (b *balancer) publish(ctx context.Context, p Publication) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Listen.String())
	if err != nil {
		return fmt.Errorf("publish port %d of services: %w: give another port", p.Port, err)
	}
	return b.accept(ctx, listener, p)
}

// accept carries connections to a service until ctx ends. It continues when the process has too many
// open files to accept one: the API server is in the same process.
func (b *balancer) accept(ctx context.Context, listener net.Listener, p Publication) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })() // its error is Accept's
	var open sync.WaitGroup
	defer open.Wait()
	room := make(chan struct{}, carriedAtOnce)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		connection, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("publish port %d of services: %w", p.Port, err)
		case err != nil:
			<-room
			b.log.Error("a published port cannot accept connections for a moment", "port", p.Listen.String(), "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		open.Go(func() {
			defer func() { <-room }()
			if err := b.carry(ctx, connection, p.Port); err != nil && ctx.Err() == nil {
				b.log.Error("a connection to a published port ended", "port", p.Listen.String(), "err", err)
			}
		})
	}
}

// carry passes a connection on to the service that has the port, until it ends or has been idle
// for idleTime.
func (b *balancer) carry(ctx context.Context, from net.Conn, port int32) error {
	defer from.Close()
	address, err := b.published(port)
	if err != nil {
		return err
	}
	to, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", address.String())
	if err != nil {
		return fmt.Errorf("connect to the service at %s: %w", address, err)
	}
	defer to.Close()
	relay(ctx, to, from, idleTime)
	return nil
}

// relay passes on what two ends send to each other, until both are done, ctx ends or neither has
// sent anything for idle.
func relay(ctx context.Context, a, b net.Conn, idle time.Duration) {
	end := func() { _ = errors.Join(a.Close(), b.Close()) }
	defer context.AfterFunc(ctx, end)()
	quiet := time.AfterFunc(idle, end)
	defer quiet.Stop()
	heard := func() { quiet.Reset(idle) }
	var way sync.WaitGroup
	way.Go(func() { pass(a, listening{b, heard}) })
	pass(b, listening{a, heard})
	way.Wait()
}

// listening is a reader that calls heard each time it has read something.
type listening struct {
	io.Reader
	heard func()
}

func (l listening) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.heard()
	}
	return n, err
}

// pass copies until from ends, and then tells the other end that nothing more will
// come. It ignores a broken connection, because the two ends notice that themselves.
func pass(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// published finds the address of the oldest service that has a port and an address.
func (b *balancer) published(port int32) (netip.AddrPort, error) {
	all, err := b.services.List(labels.Everything())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("list the services: %w", err)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(s *corev1.Service) bool {
		return !b.addressOf(s).IsValid() || !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port && p.Protocol == corev1.ProtocolTCP })
	})
	if len(all) == 0 {
		return netip.AddrPort{}, fmt.Errorf("no service of type LoadBalancer has the port %d: make one with kubectl expose --type=LoadBalancer --port=%d", port, port)
	}
	oldest := slices.MinFunc(all, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	return netip.AddrPortFrom(b.addressOf(oldest), uint16(port)), nil
}

// addressOf returns the address of our range that a service has; zero: it has none.
func (b *balancer) addressOf(s *corev1.Service) netip.Addr {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil && b.of.Contains(a) && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			return a
		}
	}
	return netip.Addr{}
}
