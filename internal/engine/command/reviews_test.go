package command

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// judges is an API server that knows two tokens: prometheus may get /metrics, and a
// tenant may not. It counts the requests.
type judges struct {
	*reviews
	tokens, rights atomic.Int32
	away           atomic.Bool
}

func newJudges() *judges {
	client := fake.NewClientset()
	j := &judges{reviews: &reviews{client: client, log: slog.New(slog.NewTextHandler(io.Discard, nil)), now: time.Now, known: map[question]verdict{}}}
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		j.tokens.Add(1)
		if j.away.Load() {
			return true, nil, errors.New("the API server is away")
		}
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if token := review.Spec.Token; token == "prometheus" || token == "tenant" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: token, Groups: []string{"system:authenticated"},
				Extra: map[string]authenticationv1.ExtraValue{"pod": {"a"}}}}
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		j.rights.Add(1)
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		s := review.Spec
		review.Status.Allowed = s.User == "prometheus" && s.Extra["pod"][0] == "a" && len(s.Groups) == 1 &&
			*s.NonResourceAttributes == authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"}
		return true, review, nil
	})
	return j
}

// get returns the status and the text of the answer to a request with that header.
func (j *judges) get(ctx context.Context, authorization, path string) (int, string) {
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	j.protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the metrics") })).ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// TestReviews: metrics over TLS are for users that the API server allows to get them.
func TestReviews(t *testing.T) {
	for _, c := range []struct {
		authorization, path string
		code                int
		text                string
	}{
		{"Bearer prometheus", "/metrics", http.StatusOK, "the metrics"},
		{"Bearer prometheus", "/debug/pprof/", http.StatusForbidden, "prometheus may not get /debug/pprof/"},
		{"Bearer tenant", "/metrics", http.StatusForbidden, "nonResourceURLs: [/metrics]"},
		{"Bearer made-up", "/metrics", http.StatusUnauthorized, "does not accept this token"},
		{"", "/metrics", http.StatusUnauthorized, "needs a token"},
		{"Bearer ", "/metrics", http.StatusUnauthorized, "needs a token"},
		{"Basic prometheus", "/metrics", http.StatusUnauthorized, "needs a token"},
	} {
		if code, text := newJudges().get(t.Context(), c.authorization, c.path); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%q, %s: %d %q, want %d with %q", c.authorization, c.path, code, text, c.code, c.text)
		}
	}
}

// An answer is cached for a while, positive or negative; the lack of an answer is not.
func TestReviewsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudges()
		for range 3 {
			j.get(t.Context(), "Bearer prometheus", "/metrics")
			j.get(t.Context(), "Bearer made-up", "/metrics")
		}
		if tokens, rights := j.tokens.Load(), j.rights.Load(); tokens != 2 || rights != 1 {
			t.Errorf("%d TokenReviews and %d SubjectAccessReviews, want 2 and 1", tokens, rights)
		}
		time.Sleep(verdictTime)
		j.away.Store(true)
		if code, text := j.get(t.Context(), "Bearer prometheus", "/metrics"); code != http.StatusServiceUnavailable || strings.Contains(text, "away") {
			t.Errorf("with the API server away: %d %q", code, text)
		}
		j.away.Store(false)
		if code, text := j.get(t.Context(), "Bearer prometheus", "/metrics"); code != http.StatusOK {
			t.Errorf("when it is back: %d %q", code, text)
		}
	})
}

// Made-up tokens fill no memory.
func TestReviewsAreBounded(t *testing.T) {
	j := newJudges()
	for i := range 3 * maxVerdicts {
		j.remember(question{path: strconv.Itoa(i)}, nil)
		if len(j.known) > maxVerdicts {
			t.Fatalf("%d answers are remembered, want %d at most", len(j.known), maxVerdicts)
		}
	}
}
