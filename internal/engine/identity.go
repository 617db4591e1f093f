package engine

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// noteIdentity remembers whether the API server still knows who we are. It says
// so of any request, but not of a watch that is open already: without this, a
// process whose certificate has expired would look ready for minutes. What was
// asked before it refused tells nothing new, whenever the answer comes.
func (r *requests) noteIdentity(code int, client *rest.Config, asked, now time.Time, log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.refused.since.IsZero()
	switch {
	case code == http.StatusUnauthorized && known:
		r.refused = failure{now, whyRefused(client, now).Error()}
		log.Warn("the API server refuses this process: nothing is written until it is let in again", "error", r.refused.what)
	case !known && asked.After(r.refused.since) && (code < 400 || code == http.StatusForbidden):
		log.Info("the API server lets this process in again", "after", now.Sub(r.refused.since).Round(time.Second).String())
		r.refused = failure{}
	}
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
