package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// api serves a store over HTTP.
type api struct {
	store      *store
	node       string        // in every answer, so that a caller sees which node served it
	defaultTTL time.Duration // of values without one; 0: none
}

// handler returns the routes:
//
//	PUT    /cache/KEY  stores the body. Content-Type is kept; Cache-Control: max-age=SECONDS limits its life.
//	GET    /cache/KEY  returns it, with support for ranges; HEAD as well.
//	DELETE /cache/KEY  deletes it.
//	GET    /stats      counters as JSON.
//	GET    /healthz    200 as long as requests are served.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /cache/{key...}", a.put)
	mux.HandleFunc("GET /cache/{key...}", a.get)
	mux.HandleFunc("DELETE /cache/{key...}", a.delete)
	mux.HandleFunc("GET /stats", a.stats)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Node", a.node)
		mux.ServeHTTP(w, r)
	})
}

func (a *api) put(w http.ResponseWriter, r *http.Request) {
	ttl, err := maxAge(r.Header.Get("Cache-Control"), a.defaultTTL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.ContentLength > a.store.limits.Value {
		fail(w, fmt.Errorf("%w: at most %d bytes", errTooLarge, a.store.limits.Value))
		return
	}
	body := http.MaxBytesReader(w, r.Body, a.store.limits.Value)
	if err := a.store.put(r.PathValue("key"), r.Header.Get("Content-Type"), ttl, body); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) get(w http.ResponseWriter, r *http.Request) {
	m, file, err := a.store.get(r.PathValue("key"))
	if err != nil {
		fail(w, err)
		return
	}
	defer file.Close()
	kind := m.Type
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	// What others stored must not run in a browser as if it were ours.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !m.Expires.IsZero() {
		left := m.Expires.Sub(a.store.now())
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", int64(left.Seconds())))
	}
	http.ServeContent(w, r, "", m.Stored, io.NewSectionReader(file, 0, m.Size))
}

func (a *api) delete(w http.ResponseWriter, r *http.Request) {
	if err := a.store.remove(r.PathValue("key")); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) stats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	answer := struct {
		Node string `json:"node"`
		stats
	}{a.node, a.store.snapshot()}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		slog.Warn("stats not sent", "err", err)
	}
}

// fail answers with the status for an error of the store. Errors of the disk are logged and not shown to the
// caller.
func fail(w http.ResponseWriter, err error) {
	var tooLong *http.MaxBytesError
	switch {
	case errors.Is(err, errNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, errBadKey):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.As(err, &tooLong):
		http.Error(w, fmt.Sprintf("%v: at most %d bytes", errTooLarge, tooLong.Limit), http.StatusRequestEntityTooLarge)
	case errors.Is(err, errTooLarge):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case errors.Is(err, io.ErrUnexpectedEOF):
		http.Error(w, "the body ended early", http.StatusBadRequest)
	default:
		slog.Error("request failed", "err", err)
		http.Error(w, "storage failed", http.StatusInternalServerError)
	}
}

// maxAge parses the max-age of a Cache-Control header. Without one it returns fallback.
func maxAge(cacheControl string, fallback time.Duration) (time.Duration, error) {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
		if err != nil || seconds <= 0 {
			return 0, fmt.Errorf("bad max-age %q: a whole number of seconds, at least 1", value)
		}
		return time.Duration(seconds) * time.Second, nil
	}
	return fallback, nil
}
