package main

import (
	"encoding/json"
	"net/http"
	"sync"

	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// countPath is where the API server tells its counts.
const countPath = "/bench/requests"

// request is a kind of request of one user: {"everynode", "create pods"}.
type request struct {
	User string `json:"user"`
	What string `json:"what"` // verb, resource and subresource, as the API server names them
}

// answers is how often it was made: what the server did, and what it refused.
type answers struct {
	Done    int `json:"done"`
	Refused int `json:"refused"`
}

// entry is one line of the counts.
type entry struct {
	request
	answers
}

// counter counts the requests that a server handles, by user. Only what is
// authenticated comes here.
type counter struct {
	mu     sync.Mutex
	counts map[request]*answers
}

func (c *counter) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == countPath {
			c.tell(w)
			return
		}
		user, ok := apirequest.UserFrom(r.Context())
		info, known := apirequest.RequestInfoFrom(r.Context())
		if !ok || !known || !info.IsResourceRequest {
			next.ServeHTTP(w, r)
			return
		}
		what := info.Verb + " " + info.Resource
		if info.Subresource != "" {
			what += "/" + info.Subresource
		}
		key := request{user.GetName(), what}
		if r.Method == http.MethodGet {
			c.add(key, http.StatusOK) // a watch would be counted when it ends
			next.ServeHTTP(w, r)
			return
		}
		noted := &notedWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(noted, r)
		c.add(key, noted.status)
	})
}

func (c *counter) add(key request, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.counts[key]
	if a == nil {
		a = &answers{}
		c.counts[key] = a
	}
	if status < http.StatusMultipleChoices {
		a.Done++
	} else {
		a.Refused++
	}
}

func (c *counter) tell(w http.ResponseWriter) {
	c.mu.Lock()
	list := make([]entry, 0, len(c.counts))
	for key, a := range c.counts {
		list = append(list, entry{key, *a})
	}
	c.mu.Unlock()
	if err := json.NewEncoder(w).Encode(list); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// notedWriter remembers the status of a response that is no stream.
type notedWriter struct {
	http.ResponseWriter
	status int
}

func (w *notedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
