package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Data arrives through a detour complete, in order, and as late as delay says, also if the delay changes. When the
// detour ends, its connections end.
func TestDetour(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var delay atomic.Int64
	d, err := newDetour("https://"+echo.Addr().String(), func() time.Duration { return time.Duration(delay.Load()) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer echo.Close()
	defer cancel()
	all.Go(func() {
		if err := d.run(ctx); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		conn, err := echo.Accept()
		if err != nil {
			return // the test has ended
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn) // ends when the connection is closed
	})
	conn, err := net.Dial("tcp", d.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	const late = 200 * time.Millisecond
	delay.Store(int64(late))
	write := func(from, to int) {
		if _, err := conn.Write(sent[from:to]); err != nil {
			t.Error(err)
		}
	}
	began, got := time.Now(), make([]byte, len(sent))
	write(0, 1)
	if _, err := io.ReadFull(conn, got[:1]); err != nil || time.Since(began) < late {
		t.Errorf("the first byte came after %s (%v), want %s", time.Since(began), err, late)
	}
	all.Go(func() {
		for i := 1; i < len(sent); i += 1 << 16 {
			write(i, min(i+1<<16, len(sent)))
			delay.Store(int64(late) - delay.Load()) // on and off
		}
	})
	if _, err := io.ReadFull(conn, got[1:]); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came back is not what was sent (%v)", err)
	}
	cancel()
	if _, err := conn.Read(got); err == nil {
		t.Error("a connection outlives its detour")
	}
}
