package engine

import (
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// standing is whether the API server accepts our credentials, on the connections of one client:
// each client renews its certificate at its own time.
type standing struct {
	refused failure   // since when it rejects us; zero: it accepts us
	allowed time.Time // when it accepted us again
}

// leases are written by this process alone.
const leases = "leases"

// noteIdentity remembers whether the API server still accepts our credentials. It checks them for
// every request, but not for an open watch: without this, a process whose certificate has expired
// would look ready for minutes. Requests sent before the server's answer changed prove nothing,
// whenever their answers arrive.
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
			by.log.Warn("the API server rejects our credentials: writing nothing until it accepts them again", "err", s.refused.what)
		}
	case !known && asked.After(s.refused.since) && (code < 400 || code == http.StatusForbidden):
		s.refused, s.allowed = failure{}, now
		if r.refused().since.IsZero() {
			by.log.Info("the API server accepts our credentials again", "after", now.Sub(before.since).Round(time.Second).String())
		}
	}
}

// refused returns the oldest refusal that still lasts; zero: there is none.
func (r *requests) refused() (oldest failure) {
	for _, s := range r.standings {
		if at := s.refused.since; !at.IsZero() && (oldest.since.IsZero() || at.Before(oldest.since)) {
			oldest = s.refused
		}
	}
	return oldest
}

// whyRefused checks the client certificate, because the API server does not say what is wrong
// with it.
func whyRefused(client *rest.Config, now time.Time) error {
	if err := checkCredentials(client, now); err != nil {
		return err
	}
	return explain(apierrors.NewUnauthorized("401 Unauthorized"))
}

// whereRenewed returns how a new client certificate reaches the engine.
func whereRenewed(c *rest.Config) string {
	if len(c.CertData) > 0 {
		return "renew it in the kubeconfig, and restart this process"
	}
	return fmt.Sprintf("renew %s, which is read again within five minutes", c.CertFile)
}
