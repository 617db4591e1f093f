package testbed

import (
	"encoding/json"
	"net/http"
	"sync"

	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// CountPath is where the API server serves its counts.
const CountPath = "/bench/requests"

// Request is a kind of request of one user: {"everynode", "create pods"}.
type Request struct {
	User string `json:"user"`
	What string `json:"what"` // verb, resource and subresource, as the API server names them
}

// Answers is how often the server did and refused what a kind of request asked
// for.
type Answers struct {
	Done    int `json:"done"`
	Refused int `json:"refused"`
}

// Entry is one line of the counts.
type Entry struct {
	Request
	Answers
}

// counter counts the requests that a server handles, by user. It only gets
// authenticated requests.
type counter struct {
	mu     sync.Mutex
	counts map[Request]*Answers
}

func (c *counter) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == CountPath {
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
		key := Request{user.GetName(), what}
		if r.Method == http.MethodGet {
			c.add(key, http.StatusOK) // otherwise a watch would only be counted when it ends
			next.ServeHTTP(w, r)
			return
		}
		noted := &notedWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(noted, r)
		c.add(key, noted.status)
	})
}

func (c *counter) add(key Request, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.counts[key]
	if a == nil {
		a = &Answers{}
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
	list := make([]Entry, 0, len(c.counts))
	for key, a := range c.counts {
		list = append(list, Entry{key, *a})
	}
	c.mu.Unlock()
	if err := json.NewEncoder(w).Encode(list); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// notedWriter records the status of a response that is not a stream.
type notedWriter struct {
	http.ResponseWriter
	status int
}

func (w *notedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
