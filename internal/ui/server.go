// Package ui serves the page of `everynode ui`: one page on loopback, a stream of what changes in a fleet, and answers
// to requests for details. It follows the fleet only while somebody looks. The caller says where the fleet comes from
// and how to steer a release.
package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"everynode/internal/fleetview"
)

// Source is a fleet that can be followed.
type Source interface {
	// Follow calls show with what is known, and again each time something has changed, until ctx ends. Afterwards it
	// may be called again. While nothing can be read, it calls failing with the reason, and goes on. An error means that
	// there is nothing more to see, and says why.
	Follow(ctx context.Context, show func(*fleetview.State), failing func(why string)) error
	// Node, Events and Log answer requests for details. They return fleetview.ErrUnknown if the object does not exist.
	Node(ctx context.Context, name string) (*fleetview.NodeDetail, error)
	Events(ctx context.Context, namespace, name string) (*fleetview.Events, error)
	Log(ctx context.Context, namespace, name, node string) (*fleetview.Log, error)
}

// Act steers the release of a DaemonSet, and returns the result in words.
type Act func(ctx context.Context, namespace, name string, a fleetview.Action) (said string, err error)

// Options are the parameters of a Server.
type Options struct {
	Source Source
	// Act is nil for a read-only page.
	Act Act
	// Program is the command that users type to run this program.
	Program string
	// Replay is the name of the recording that is shown; empty: it is a live cluster.
	Replay string
	// Record is where the states are recorded, even while nobody looks; nil: nowhere.
	Record io.Writer
	// Errors is where problems are written that no page is told about. Tokens are never written to it.
	Errors io.Writer
}

// Server serves the page.
type Server struct {
	o     Options
	token Token
	hub   *hub
	host  string // the host that a request must name
}

// New returns a server for clients that have the token.
func New(o Options, token Token) *Server {
	if o.Errors == nil {
		o.Errors = io.Discard
	}
	return &Server{o: o, token: token, hub: newHub(o.Source)}
}

const (
	readTime     = 10 * time.Second // for the header of a request; a limit for the whole request would end streams
	writeTime    = 30 * time.Second // for one write to a stream
	shutdownTime = 3 * time.Second
	// aliveEvery is how often a stream sends something, so that a page knows that it is alive.
	aliveEvery = 10 * time.Second
)

// Serve serves on the listener until ctx ends. The listener must be on loopback.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok || !address.IP.IsLoopback() {
		return fmt.Errorf("the page is only for this machine, and %s is not a loopback address", l.Addr())
	}
	s.host = address.String()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { s.hub.run(ctx) })
	var recorded error
	if s.o.Record != nil {
		all.Go(func() {
			if recorded = s.record(ctx); recorded != nil {
				stop()
			}
		})
	}
	server := &http.Server{Handler: s.guarded(s.routes()), ReadHeaderTimeout: readTime, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: log.New(s.o.Errors, "", 0)}
	all.Go(func() {
		<-ctx.Done()
		last, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer done()
		if err := server.Shutdown(last); err != nil {
			fmt.Fprintf(s.o.Errors, "warning: not all connections of the page were closed: %v\n", err)
		}
	})
	err := server.Serve(l)
	stop()
	all.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, recorded)
}

// URL returns the address of the page, for a server on the listener. Its fragment is the token, which browsers do not
// send.
func (s *Server) URL(l net.Listener) string {
	return fmt.Sprintf("http://%s/#token=%s", l.Addr(), s.token)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	addPage(mux)
	ask := func(pattern string, answer func(r *http.Request) (any, error)) {
		mux.Handle(pattern, s.withToken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, answer) })))
	}
	mux.Handle("GET /v1/stream", s.withToken(http.HandlerFunc(s.stream)))
	ask("GET /v1/node", s.node)
	ask("GET /v1/events", s.events)
	ask("GET /v1/log", s.log)
	ask("POST /v1/action", s.act)
	return mux
}

// answer writes the result of answer as JSON, and errors as {"error": ...}.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, answer func(r *http.Request) (any, error)) {
	value, err := answer(r)
	status := http.StatusOK
	if err != nil {
		if status = statusOf(err); r.Context().Err() != nil {
			return // the client has gone
		}
		value = fleetview.Answer{Error: err.Error()}
	}
	text, err := json.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written"}`)
		fmt.Fprintf(s.o.Errors, "warning: encode an answer for the page: %v\n", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that does not read it has gone
}

// callError is an error in the request of the page.
type callError struct {
	status int
	text   string
}

func (e *callError) Error() string { return e.text }

func statusOf(err error) int {
	if wrong := (*callError)(nil); errors.As(err, &wrong) {
		return wrong.status
	}
	if errors.Is(err, fleetview.ErrUnknown) {
		return http.StatusNotFound
	}
	return http.StatusBadGateway
}

func (s *Server) node(r *http.Request) (any, error) {
	return s.o.Source.Node(r.Context(), r.FormValue("name"))
}

func (s *Server) events(r *http.Request) (any, error) {
	namespace, name, err := setOf(r)
	if err != nil {
		return nil, err
	}
	return s.o.Source.Events(r.Context(), namespace, name)
}

func (s *Server) log(r *http.Request) (any, error) {
	namespace, name, err := setOf(r)
	if err != nil {
		return nil, err
	}
	return s.o.Source.Log(r.Context(), namespace, name, r.FormValue("node"))
}

// setOf returns the DaemonSet that a request is about.
func setOf(r *http.Request) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(r.FormValue("set"), "/")
	if !ok || namespace == "" || name == "" {
		return "", "", &callError{http.StatusBadRequest, "set: give a DaemonSet as namespace/name"}
	}
	return namespace, name, nil
}

// maxAction is the maximum size of an Action in bytes.
const maxAction = 4 << 10

func (s *Server) act(r *http.Request) (any, error) {
	if s.o.Act == nil {
		return nil, &callError{http.StatusForbidden, "this page may only be looked at: " + s.o.Program + " ui --allow-actions lets it steer releases"}
	}
	namespace, name, err := setOf(r)
	if err != nil {
		return nil, err
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		return nil, &callError{http.StatusUnsupportedMediaType, "an action is JSON"}
	}
	var a fleetview.Action
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxAction))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		return nil, &callError{http.StatusBadRequest, "the action cannot be read: " + err.Error()}
	}
	said, err := s.o.Act(r.Context(), namespace, name, a)
	if err != nil {
		return nil, &callError{http.StatusConflict, err.Error()}
	}
	return fleetview.Answer{Said: said}, nil
}
