package engine

import (
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// standing is what the API server says of who we are, on the connections of one
// client: each client renews its certificate in its own time.
type standing struct {
	refused failure   // since when it does not know us; zero: it does
	allowed time.Time // when it let us in again
}

// noteIdentity remembers whether the API server still knows who we are. It says
// so of any request, but not of a watch that is open already: without this, a
// process whose certificate has expired would look ready for minutes. What was
// asked before it changed its mind tells nothing new, whenever the answer comes.
func (r *requests) noteIdentity(by *meter, code int, asked, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standings[by]
	if s == nil {
		s = &standing{}
		r.standings[by] = s
	}
	before := r.refused()
	known := s.refused.since.IsZero()
	switch {
	case code == http.StatusUnauthorized && known && asked.After(s.allowed):
		if s.refused = (failure{now, whyRefused(by.as, now).Error()}); before.since.IsZero() {
			by.log.Warn("the API server refuses this process: nothing is written until it is let in again", "error", s.refused.what)
		}
	case !known && asked.After(s.refused.since) && (code < 400 || code == http.StatusForbidden):
		s.refused, s.allowed = failure{}, now
		if r.refused().since.IsZero() {
			by.log.Info("the API server lets this process in again", "after", now.Sub(before.since).Round(time.Second).String())
		}
	}
}

// refused is the oldest refusal of those that last; zero: there is none.
func (r *requests) refused() (oldest failure) {
	for _, s := range r.standings {
		if at := s.refused.since; !at.IsZero() && (oldest.since.IsZero() || at.Before(oldest.since)) {
			oldest = s.refused
		}
	}
	return oldest
}

// whyRefused looks at the client certificate, of which the API server does not
// say what is wrong with it.
func whyRefused(client *rest.Config, now time.Time) error {
	if err := checkCredentials(client, now); err != nil {
		return err
	}
	return explain(apierrors.NewUnauthorized("401 Unauthorized"))
}

// whereRenewed says how a new client certificate reaches the engine.
func whereRenewed(c *rest.Config) string {
	if len(c.CertData) > 0 {
		return "renew it in the kubeconfig, and start this again"
	}
	return fmt.Sprintf("renew %s, which is read again within five minutes", c.CertFile)
}
