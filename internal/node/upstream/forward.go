// Package upstream is the way from a node to the API: which servers there are, which
// of them works, and a forwarder that carries the connections of this machine there.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// forwardPort is where programs of the node reach an API server, unless
	// something else listens there.
	forwardPort = 6444

	probeEvery   = 5 * time.Second
	probeTimeout = 3 * time.Second
	// probeAgain is the pause after a failed probe. After probesMissed failures in a
	// row a server counts as dead.
	probeAgain   = time.Second
	probesMissed = 2
	// stagger is how long a server may take to answer before the next is asked as
	// well, while one is chosen.
	stagger = 250 * time.Millisecond
	// homeAfter is how long a node stays at least with a server that is not the
	// first in its order. It stays at most twice as long.
	homeAfter = 5 * time.Minute
)

// Forwarder carries TCP connections of this machine to an API server that works. It
// cannot see what is in them: TLS ends at the server.
//
// All connections go to one server, the current one, as long as it works. When
// another takes its place, the forwarder cuts the connections to the old one, so
// that clients connect again: a kubelet would wait for an answer from a dead machine
// for longer than its node may be silent.
type Forwarder struct {
	Options
	listener net.Listener
	probe    probe

	choosing sync.Mutex // locked while another server is chosen

	mu      sync.Mutex
	servers serverList
	current string                // "": none is known to work
	since   time.Time             // when it became the current one
	carried map[*carried]struct{} // nil once the forwarder has ended
}

// carried is one connection: both its ends, and where it leads.
type carried struct {
	server     string
	client, up net.Conn
}

// Options configure a [Forwarder].
type Options struct {
	Node  string   // its name, which determines the order of the servers
	Given []string // servers that the command line names, as host:port
	File  string   // where it keeps what it has learned, for the next run
	CA    []byte   // of the cluster (PEM); nil until the node has joined
	Log   *slog.Logger
}

// NewForwarder listens at the port of the last run, so that copies of the node's
// credentials stay valid, or at another one if that is not free.
func NewForwarder(o Options) (*Forwarder, error) {
	old := Recall(o.File, o.Log)
	listener, err := listenLoopback(old.Port, forwardPort, 0)
	if err != nil {
		return nil, err
	}
	f := &Forwarder{Options: o, listener: listener, carried: map[*carried]struct{}{},
		servers: serverList{given: o.Given, listed: old.Servers}}
	if _, err := f.probe.trust(o.CA); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if f.port() != old.Port {
		old.Port = f.port()
		if err := old.write(o.File); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	return f, nil
}

// listenLoopback takes the first port that is free. Port 0 means any port; it is
// skipped unless it is the last.
func listenLoopback(ports ...int) (listener net.Listener, err error) {
	for i, port := range ports {
		if port == 0 && i < len(ports)-1 {
			continue
		}
		if listener, err = net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(port))); err == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("listen on %s for the programs of this node: %w", loopback, err)
}

func (f *Forwarder) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// URL is where programs of this machine reach the cluster's API.
func (f *Forwarder) URL() string { return "https://" + f.listener.Addr().String() }

// Trust makes the forwarder accept only servers with certificates from ca. If that
// is a new CA, it chooses its server again.
func (f *Forwarder) Trust(ca []byte) error {
	changed, err := f.probe.trust(ca)
	if !changed || err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = ""
	return nil
}

// Run carries connections until ctx ends.
func (f *Forwarder) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer f.probe.close()
	defer context.AfterFunc(ctx, f.end)()
	all.Go(func() { f.watch(ctx) })
	for {
		client, err := f.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			f.Log.Error("cannot accept a connection for an API server", "err", err)
			pause(ctx, probeAgain)
			continue
		}
		all.Go(func() { f.carry(ctx, client) })
	}
}

// end closes the listener and all connections.
func (f *Forwarder) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listener.Close()
	for c := range f.carried {
		c.cut()
	}
	f.carried = nil
}

func (c *carried) cut() {
	c.client.Close()
	c.up.Close()
}

// carry connects client with a server until the connection ends.
func (f *Forwarder) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, up, err := f.connect(ctx)
	if err != nil {
		f.Log.Debug("no API server accepts a connection", "err", err)
		return
	}
	c := &carried{server, client, up}
	defer c.cut()
	if !f.add(c) {
		return
	}
	defer f.remove(c)
	c.copy()
}

// Carry copies between two connections until both have ended or ctx ends, and closes
// both.
func Carry(ctx context.Context, client, up net.Conn) {
	c := &carried{client: client, up: up}
	defer c.cut()
	defer context.AfterFunc(ctx, c.cut)()
	c.copy()
}

// copy copies both ways until both have ended.
func (c *carried) copy() {
	var ways sync.WaitGroup
	ways.Go(func() { copyOneWay(c.up, c.client) })
	copyOneWay(c.client, c.up)
	ways.Wait()
}

// copyOneWay copies until from ends, and then signals the end to the other side.
// After an error it closes both: nothing more will come from there either.
func copyOneWay(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok { // TCP and Unix sockets
		_ = half.CloseWrite() // it may be closed already
	}
}

// add records a connection. It reports whether the connection may be used: not if
// the current server has changed meanwhile, or the forwarder has ended.
func (f *Forwarder) add(c *carried) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.carried == nil || (f.current != "" && f.current != c.server) {
		return false
	}
	f.carried[c] = struct{}{}
	return true
}

func (f *Forwarder) remove(c *carried) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.carried, c)
}

// connect connects to the current server, or to another one if it does not answer.
func (f *Forwarder) connect(ctx context.Context) (server string, up net.Conn, err error) {
	server = f.now()
	if server != "" {
		if up, err = dial(ctx, server); err == nil {
			return server, up, nil
		}
	}
	var errs []error
	for _, next := range f.replace(ctx, server, err) {
		if up, err = dial(ctx, next); err == nil {
			return next, up, nil
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

func dial(ctx context.Context, server string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return (&net.Dialer{}).DialContext(ctx, "tcp", server)
}

func (f *Forwarder) now() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

func (f *Forwarder) order() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers.order(f.Node)
}

// replace finds a ready server to take the place of the one that failed, and returns
// it. If there is none it returns all in their order: a server that is not ready may
// still be better than none.
func (f *Forwarder) replace(ctx context.Context, failed string, why error) []string {
	f.choosing.Lock()
	defer f.choosing.Unlock()
	if now := f.now(); now != failed {
		return []string{now} // it was replaced meanwhile
	}
	order := f.order()
	best := f.firstReady(ctx, slices.DeleteFunc(slices.Clone(order), func(s string) bool { return s == failed }))
	if best == "" {
		return order
	}
	f.use(best, why)
	return []string{best}
}

// firstReady asks the servers one after another, and returns the first that is
// ready; "" for none. It asks the next one when the last has answered or stagger has
// passed.
func (f *Forwarder) firstReady(ctx context.Context, servers []string) string {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	answers := make(chan string, len(servers)) // "" for one that is not ready
	open, next := 0, 0
	for next < len(servers) || open > 0 {
		var moment <-chan time.Time
		if next < len(servers) {
			server := servers[next]
			asking.Go(func() {
				if f.probe.ready(ctx, server) != nil {
					server = ""
				}
				answers <- server
			})
			next, open, moment = next+1, open+1, time.After(stagger)
		}
		select {
		case server := <-answers:
			if server != "" {
				return server
			}
			open--
		case <-moment:
		}
	}
	return ""
}

// use makes a server the current one, and cuts the connections to others.
func (f *Forwarder) use(server string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	attrs := []any{slog.String("server", server)}
	if f.current != "" {
		attrs = append(attrs, slog.String("before", f.current), slog.Any("why", why))
	}
	f.Log.Info("using an API server", attrs...)
	f.current, f.since = server, time.Now()
	for c := range f.carried {
		if c.server != server {
			c.cut()
		}
	}
}

// watch checks until ctx ends whether the current server still works, and replaces
// it when it does not.
func (f *Forwarder) watch(ctx context.Context) {
	stay := homeAfter + rand.N(homeAfter) // otherwise all nodes would come back to a server at once
	missed := 0
	for ctx.Err() == nil {
		server := f.now()
		if server == "" {
			f.replace(ctx, "", nil)
			pause(ctx, probeAgain)
			continue
		}
		err := f.probe.ready(ctx, server)
		switch {
		case err == nil:
			missed = 0
			f.goHome(ctx, server, stay)
			pause(ctx, probeEvery)
			continue
		case ctx.Err() != nil:
			return
		}
		if missed++; missed >= probesMissed {
			f.replace(ctx, server, err)
			missed = 0
		}
		pause(ctx, probeAgain)
	}
}

// goHome returns to the first server of the order when the node has been with
// another for long. Otherwise a server that has restarted would not get its nodes
// back.
func (f *Forwarder) goHome(ctx context.Context, server string, stay time.Duration) {
	f.mu.Lock()
	home, long := f.servers.order(f.Node)[0], time.Since(f.since) >= stay
	f.mu.Unlock()
	if long && home != server && f.probe.ready(ctx, home) == nil {
		f.use(home, errors.New("it is this node's first choice and works again"))
	}
}

// learn takes the servers that the cluster lists, and remembers them.
func (f *Forwarder) learn(listed []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.servers.with(listed)
	known := func(l serverList) []string { return slices.Concat(l.listed, l.former) }
	same := slices.Equal(slices.Sorted(slices.Values(known(f.servers))), slices.Sorted(slices.Values(known(next))))
	f.servers = next
	if same {
		return nil
	}
	f.Log.Info("the cluster has these API servers", "servers", listed)
	return Remembered{Port: f.port(), Servers: known(next)}.write(f.File)
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
