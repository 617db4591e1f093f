package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A client that asks for metrics over a network sends a token, and the API server says
// whose it is and whether that user may get the path: a TokenReview and a
// SubjectAccessReview, as for Kubernetes' own components. k8s.io/apiserver has this as
// a library, which would bring 250 packages (CEL, gRPC, tracing) into a binary that has
// none of them.

const (
	// reviewTime is how long the API server may take to answer.
	reviewTime = 10 * time.Second
	// verdictTime is how long its answer is cached, positive or negative.
	verdictTime = 10 * time.Second
	// maxVerdicts limits the memory that strangers with made-up tokens can fill.
	maxVerdicts = 1000
	// reviewQPS limits the requests that they can cause.
	reviewQPS   = 5
	reviewBurst = 20
)

// reviews asks the API server which users may read what is served here.
type reviews struct {
	client kubernetes.Interface
	log    *slog.Logger
	now    func() time.Time

	mu    sync.Mutex
	known map[question]verdict
}

// question is a token and a path. The token itself is not kept.
type question struct {
	token [sha256.Size]byte
	path  string
}

type verdict struct {
	refused error // nil: allowed
	until   time.Time
}

// refusal is why a request is refused, in words that the client may see.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func newReviews(config *rest.Config, log *slog.Logger) (*reviews, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = reviewQPS, reviewBurst
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the client that asks who may read metrics: %w", err)
	}
	return &reviews{client: client, log: log, now: time.Now, known: map[question]verdict{}}, nil
}

// protect lets a request through if the API server says that its user may get the path.
func (r *reviews) protect(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "this needs a token that the API server accepts: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		err := r.ask(req.Context(), token, req.URL.Path)
		if err == nil {
			inner.ServeHTTP(w, req)
			return
		}
		var no *refusal
		if !errors.As(err, &no) {
			r.log.Warn("asking the API server who may read metrics", "path", req.URL.Path, "err", err)
			no = &refusal{http.StatusServiceUnavailable, "the API server does not say whose token this is; the log of this process says why"}
		}
		http.Error(w, no.text, no.status)
	})
}

// ask returns nil if the token's user may get the path, and a *refusal if not. Any
// other error means that there was no answer, and is not remembered.
func (r *reviews) ask(ctx context.Context, token, path string) error {
	q := question{sha256.Sum256([]byte(token)), path}
	if v, ok := r.recall(q); ok {
		return v.refused
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	err := r.review(ctx, token, path)
	var no *refusal
	if err == nil || errors.As(err, &no) {
		r.remember(q, err)
	}
	return err
}

func (r *reviews) recall(q question) (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.known[q]
	return v, ok && r.now().Before(v.until)
}

func (r *reviews) remember(q question, refused error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxVerdicts {
		clear(r.known)
	}
	r.known[q] = verdict{refused, r.now().Add(verdictTime)}
}

// review asks whose the token is, and then whether that user may get the path.
func (r *reviews) review(ctx context.Context, token, path string) error {
	who, err := r.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a TokenReview: %w", err)
	}
	if !who.Status.Authenticated {
		return &refusal{http.StatusUnauthorized, "the API server does not accept this token: it is unknown or has expired"}
	}
	user := who.Status.User
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extras(user.Extra),
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
	}}
	may, err = r.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, may, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a SubjectAccessReview: %w", err)
	}
	if !may.Status.Allowed {
		return &refusal{http.StatusForbidden, fmt.Sprintf("%s may not get %s: a ClusterRole with nonResourceURLs: [%s] and verbs: [get] allows it", user.Username, path, path)}
	}
	return nil
}

func extras(from map[string]authenticationv1.ExtraValue) map[string]authorizationv1.ExtraValue {
	to := make(map[string]authorizationv1.ExtraValue, len(from))
	for key, values := range from {
		to[key] = authorizationv1.ExtraValue(values)
	}
	return to
}
