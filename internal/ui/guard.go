package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Token is what a page must send to get any data. It is in the fragment of the page's address, which browsers do not send
// and servers do not log.
type Token string

// tokenBytes is the length of a token before it is encoded.
const tokenBytes = 32

// NewToken returns a token that nobody can guess.
func NewToken() Token {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // it never fails
	return Token(base64.RawURLEncoding.EncodeToString(random))
}

// is compares in constant time, so that the time does not reveal how much of the given token is right.
func (t Token) is(given string) bool {
	a, b := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(given))
	return t != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// policy is the page's Content-Security-Policy. It lets the page load what this server has, and nothing else: no inline
// scripts, no other site, no frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// guarded refuses requests that a page of another site has made. Such a page can make a browser send requests to this
// server, directly or under a host name of its own that it has pointed at this machine (DNS rebinding).
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !s.ours(r.Host):
			http.Error(w, "this server answers to "+s.host+" and to no other name", http.StatusMisdirectedRequest)
		case !s.fromUs(r):
			http.Error(w, "this server answers to its own page and to no other", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ours reports whether the request was made to this server under one of its own names.
func (s *Server) ours(host string) bool {
	_, port, err := net.SplitHostPort(s.host)
	return err == nil && slices.Contains([]string{s.host, "localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port}, strings.ToLower(host))
}

// fromUs reports whether the request does not come from a page of another site. Browsers say where it comes from: in
// Origin when it matters, in Sec-Fetch-Site always.
func (s *Server) fromUs(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	// A link on another site may lead to the page, which gets no data without the token.
	return r.URL.Path == "/" && r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
}

// withToken serves only requests with the token.
func (s *Server) withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer || !s.token.is(given) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="everynode ui"`)
			http.Error(w, "the token is missing or of another run: open the page with the link that `"+s.o.Program+" ui` prints", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
