package verbs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
)

// transport is a function as a transport.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// aCluster is a cluster whose API server is a function.
type aCluster struct {
	*givenCluster
	server transport
}

func (c aCluster) Config() (*rest.Config, error) {
	return &rest.Config{Host: "https://192.0.2.1", Transport: c.server}, nil
}

// An API server that accepts requests and never answers does not make a command wait without end.
func TestServerThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := access{aCluster{server: func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		}}}
		began := time.Now()
		err := a.reach(t.Context())
		if !errors.Is(err, errUnanswered) || !strings.HasSuffix(err.Error(), ": the API server has not answered for 1m30s") {
			t.Errorf("%v, want that it has not answered", err)
		}
		if took := time.Since(began); took != patience {
			t.Errorf("given up after %s, want %s", took, patience)
		}
	})
}

// An answer that has begun may take any time, and ends when the caller has read enough.
func TestLongAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked context.Context
		i := impatient{transport(func(r *http.Request) (*http.Response, error) {
			asked = r.Context()
			time.Sleep(patience - time.Second)
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("later"))}, nil
		})}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://192.0.2.1/api", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := i.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "later" || asked.Err() != nil {
			t.Errorf("%q, %v, %v", text, err, asked.Err())
		}
		if err := response.Body.Close(); err != nil || asked.Err() == nil {
			t.Errorf("%v; the request goes on after its answer was closed", err)
		}
	})
}
