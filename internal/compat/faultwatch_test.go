package compat

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// madeName matches a pod name of ours in an encoded pod.
var madeName = regexp.MustCompile(`[a-z]+-[bcdfghjklmnpqrstvwxz2456789]{10}`)

// watch forwards a watch. From time to time it stalls or is cut.
func (g *gate) watch(w http.ResponseWriter, req *http.Request) {
	if fault, _ := g.draw(readFaults, false); fault != noFault {
		g.proxy.count("watch refused")
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	g.connect(req)
	if !g.enter() {
		panic(http.ErrAbortHandler)
	}
	defer g.busy.Done()
	g.called("WATCH"+strings.TrimPrefix(what(req), req.Method), req)
	resp, err := g.proxy.next.RoundTrip(g.outbound(req.Context(), req, http.NoBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	copyHeader(w, resp)
	control := http.NewResponseController(w)
	_ = control.Flush() // if the reader is gone, the request's context ends
	chunks, ended := make(chan []byte), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(chunks)
		read(resp.Body, chunks, req.Context().Done())
	}()
	defer func() {
		resp.Body.Close()
		for range chunks {
		}
		<-ended
	}()
	g.relay(w, req, chunks)
}

// relay delivers the events of a watch.
func (g *gate) relay(w http.ResponseWriter, req *http.Request, chunks <-chan []byte) {
	control := http.NewResponseController(w)
	trouble := time.NewTimer(g.some(watchQuiet))
	defer trouble.Stop()
	for {
		select {
		case chunk, ok := <-chunks:
			if !ok {
				return
			}
			g.connect(req)
			if _, err := w.Write(chunk); err != nil {
				return
			}
			_ = control.Flush()
		case <-trouble.C:
			trouble.Reset(g.some(watchQuiet))
			switch {
			case g.proxy.isCalm():
			case g.some(3) == 0:
				g.proxy.count("watch cut")
				reset(w)
			default:
				g.proxy.count("watch stalled")
				g.stall(req, g.some(longestStall))
			}
		case <-g.shutC:
			panic(http.ErrAbortHandler)
		case <-req.Context().Done():
			return
		}
	}
}

// stall delivers nothing for some time.
func (g *gate) stall(req *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.proxy.peace():
	case <-g.shutC:
	case <-req.Context().Done():
	}
}

// some returns a random duration below d.
func (g *gate) some(d time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Duration(g.random.Int64N(int64(d)))
}

// read sends what it reads until the end, or until done is closed.
func read(from io.Reader, to chan<- []byte, done <-chan struct{}) {
	for {
		chunk := make([]byte, 32<<10)
		n, err := from.Read(chunk)
		if n > 0 {
			select {
			case to <- chunk[:n]:
			case <-done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func copyHeader(w http.ResponseWriter, resp *http.Response) {
	for key, values := range resp.Header {
		if key != "Connection" && key != "Transfer-Encoding" {
			w.Header()[key] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
}

// refuse answers like an API server in trouble.
func refuse(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":"a fault of the test","details":{"retryAfterSeconds":1},"code":%d}`,
		reason, code)
}

// reset breaks the connection, as a network may.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // RST rather than FIN; without it the connection still ends
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}
