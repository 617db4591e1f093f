package engine

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// pager serves lists of n pages, each after takes. It forgets the state that a list
// began with after expires pages; zero: never.
type pager struct {
	n, expires int
	takes      time.Duration
	served     int
}

func (p *pager) RoundTrip(req *http.Request) (*http.Response, error) {
	if !sleep(req.Context(), p.takes) {
		return nil, req.Context().Err()
	}
	query := req.URL.Query()
	if query.Get("limit") == "" {
		return respondError(apierrors.NewBadRequest("a list in one piece"))
	}
	page, _ := strconv.Atoi(query.Get("continue"))
	if p.expires > 0 && page == p.expires {
		gone := apierrors.NewResourceExpired("the continue token is too old")
		gone.ErrStatus.Continue = fmt.Sprint(p.expires * 1000)
		return respondError(gone)
	}
	p.served++
	next := ""
	if p.served < p.n {
		next = fmt.Sprint(page + 1)
	}
	body := fmt.Sprintf(`{"metadata":{"resourceVersion":"%d","continue":%q},"items":[]}`, 100+page, next)
	kind := map[bool]string{true: `"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",`, false: `"kind":"DaemonSetList","apiVersion":"apps/v1",`}[req.URL.Path == "/api/v1/pods"]
	if req.URL.Path == "/apis/apps/v1/controllerrevisions" {
		kind = `"kind":"ControllerRevisionList","apiVersion":"apps/v1",`
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader([]byte("{" + kind + body[1:])))}, nil
}

// A list may have any number of pages: each has its own deadline, which grows if it was
// too short.
func TestPagesHaveDeadlinesOfTheirOwn(t *testing.T) {
	lists := map[string]func(*testing.T, api) error{
		"pods": func(t *testing.T, a api) error { _, err := a.listPods(t.Context(), ""); return err },
		"daemonsets": func(t *testing.T, a api) error {
			return a.eachSet(t.Context(), func(*appsv1.DaemonSet) error { return nil })
		},
		"controllerrevisions": func(t *testing.T, a api) error {
			return a.eachRevision(t.Context(), func(*appsv1.ControllerRevision) error { return nil })
		},
	}
	for what, list := range lists {
		for _, p := range []pager{{n: 40, takes: 3 * time.Second}, {n: 3, takes: 50 * time.Second}, {n: 200, expires: 120, takes: 4 * time.Second}} {
			t.Run(fmt.Sprintf("%s %+v", what, p), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, err := newAPI(&rest.Config{Host: "http://fake", Transport: &p})
					if err != nil {
						t.Fatal(err)
					}
					for range 2 { // a page of 50 s is too slow the first time
						if err = list(t, a); err == nil {
							break
						}
					}
					if err != nil || p.served != p.n {
						t.Errorf("%v after %d of %d pages", err, p.served, p.n)
					}
				})
			})
		}
	}
}

// A list that the server begins again for each page ends with an error, and not with requests without end.
func TestPagesThatAlwaysExpire(t *testing.T) {
	asked := 0
	a, err := newAPI(&rest.Config{Host: "http://fake", Transport: answers(func(*http.Request) (*http.Response, error) {
		asked++
		gone := apierrors.NewResourceExpired("the continue token is too old")
		gone.ErrStatus.Continue = "again"
		return respondError(gone)
	})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.listPods(t.Context(), ""); !apierrors.IsResourceExpired(err) || asked != 2 {
		t.Errorf("%d requests; %v", asked, err)
	}
}
