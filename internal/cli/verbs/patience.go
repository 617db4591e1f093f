package verbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// patience is how long the API server may take to begin an answer. It ends its own work on a request after a minute.
const patience = 90 * time.Second

// Config is the client configuration for the API server. A request fails if its answer does not begin in time.
func (a access) Config() (*rest.Config, error) {
	config, err := a.Cluster.Config()
	if err != nil {
		return nil, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return impatient{next} })
	return config, nil
}

// impatient gives up requests whose answers do not begin in time. A server that accepts connections and is stuck would
// make a command wait without end otherwise. Answers themselves may take as long as they like: a watch is one.
type impatient struct{ next http.RoundTripper }

var errUnanswered = fmt.Errorf("the API server has not answered for %s", patience)

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, giveUp := context.WithCancelCause(r.Context())
	late := time.AfterFunc(patience, func() { giveUp(errUnanswered) })
	response, err := i.next.RoundTrip(r.WithContext(ctx))
	switch {
	case err != nil:
		late.Stop()
		giveUp(nil)
		if errors.Is(context.Cause(ctx), errUnanswered) {
			return nil, errUnanswered
		}
		return nil, err
	case !late.Stop():
		return nil, errors.Join(errUnanswered, response.Body.Close())
	}
	response.Body = answer{response.Body, giveUp}
	return response, nil
}

// WrappedRoundTripper returns the transport below, for client-go, which looks for its own there.
func (i impatient) WrappedRoundTripper() http.RoundTripper { return i.next }

// answer is the body of an answer. Its request's context ends when it is closed.
type answer struct {
	io.ReadCloser
	end context.CancelCauseFunc
}

func (a answer) Close() error {
	defer a.end(nil)
	return a.ReadCloser.Close()
}
