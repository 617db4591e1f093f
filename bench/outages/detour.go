package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// detour is a proxy to the API server that delays answers. It forwards bytes, since TLS is end to end.
type detour struct {
	listener net.Listener
	to       string               // host and port
	delay    func() time.Duration // how long answers take longer now
	all      sync.WaitGroup
}

func newDetour(server string, delay func() time.Duration) (*detour, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for who goes to the API server: %w", err)
	}
	return &detour{listener: l, to: u.Host, delay: delay}, nil
}

func (d *detour) url() string { return "https://" + d.listener.Addr().String() }

// run forwards connections until ctx ends.
func (d *detour) run(ctx context.Context) error {
	defer d.all.Wait()
	defer context.AfterFunc(ctx, func() { d.listener.Close() })()
	for {
		client, err := d.listener.Accept()
		if err != nil {
			d.listener.Close()
			if ctx.Err() == nil {
				return fmt.Errorf("on the way to the API server: %w", err)
			}
			return nil
		}
		d.all.Go(func() { d.pass(ctx, client) })
	}
}

func (d *detour) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.to)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})()
	d.all.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client) // either end may close at any time
	})
	d.back(ctx, client, server)
}

// chunk is what is forwarded at a time.
type chunk struct {
	at   time.Time
	data []byte
}

// back forwards answers in order. Each is delayed by what delay returned when it arrived.
func (d *detour) back(ctx context.Context, client io.WriteCloser, server io.Reader) {
	chunks := make(chan chunk, 1024)
	d.all.Go(func() {
		defer client.Close()
		for c := range chunks {
			timer := time.NewTimer(time.Until(c.at))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
			if _, err := client.Write(c.data); err != nil {
				for range chunks { // until the reader notices that the connection is closed
				}
				return
			}
		}
	})
	defer close(chunks)
	for {
		buffer := make([]byte, 32<<10)
		n, err := server.Read(buffer)
		if n > 0 {
			chunks <- chunk{time.Now().Add(d.delay()), buffer[:n]}
		}
		if err != nil {
			return
		}
	}
}
