package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

func TestParseGiven(t *testing.T) {
	for _, g := range []given{
		{key: keyHash([]byte("a")), at: time.Unix(1_800_000_000, 0), token: "abcdef"},
		{key: keyHash([]byte("b")), at: time.Unix(1, 0), token: "abcdef", registered: true},
	} {
		if got, err := parseGiven(g.String()); err != nil || got != g {
			t.Errorf("%q is read as %+v, %v", g, got, err)
		}
	}
	for _, wrong := range []string{"", "a", "a b", "a b c", "a 1 c d", "a 1 c registered more"} {
		if got, err := parseGiven(wrong); err == nil {
			t.Errorf("%q is read as %+v", wrong, got)
		}
	}
}

// The ConfigMaps are bounded. A token without names cannot keep out the holder of a token for a name.
func TestRoomForNames(t *testing.T) {
	list := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "names"}, Data: map[string]string{}}
	waits := given{key: "k", at: time.Unix(1, 0), token: "abcdef"}.String()
	for i := range givenWaiting {
		if full := roomIn(list, false); full != "" {
			t.Fatalf("after %d names: %s", i, full)
		}
		list.Data["node-"+strconv.Itoa(i)] = waits
	}
	if full := roomIn(list, false); !strings.Contains(full, "256 machines that were given names have not registered yet") {
		t.Errorf("as many as may wait: %q", full)
	}
	if full := roomIn(list, true); full != "" {
		t.Errorf("one that was asked for: %q", full)
	}
	list.Data["node-0"] += " registered"
	if full := roomIn(list, false); full != "" {
		t.Errorf("one less waits: %q", full)
	}
	for i := range givenSize / 100 {
		list.Data[fmt.Sprintf("%0100d", i)] = waits + " registered"
	}
	if full := roomIn(list, true); !strings.Contains(full, "is full") {
		t.Errorf("a list that is full takes more: %q", full)
	}
}

// TestKeepGiven: it is noted which nodes have registered, names that no old certificate can claim are removed,
// and a name whose machine has not registered stays.
func TestKeepGiven(t *testing.T) {
	now := time.Now()
	line := func(age time.Duration, registered bool) string {
		return given{key: "k", at: now.Add(-age), token: "abcdef", registered: registered}.String()
	}
	const part = givenNames + "-0"
	before := map[string]string{"came": line(time.Hour, false), "waits": line(2*givenKept, false), "gone": line(time.Hour, true),
		"old": line(givenKept+time.Hour, true), "ahead": line(-givenKept, true), "broken": "x"}
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	if err := nodes.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "came"}}); err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: part, UID: "1"}, Data: maps.Clone(before)})
	c := &nodeController{client: client, nodes: corelisters.NewNodeLister(nodes), told: map[string]bool{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[item]())}
	defer c.queue.ShutDown()
	for range 2 {
		if err := c.keepGiven(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), part, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := parseGiven(list.Data["ahead"])
	if err != nil || ahead.at.After(time.Now()) {
		t.Errorf("what was noted by a clock that was ahead: %+v, %v", ahead, err)
	}
	delete(list.Data, "ahead")
	want := map[string]string{"came": before["came"] + " registered", "waits": before["waits"], "gone": before["gone"], "broken": "x"}
	if !maps.Equal(list.Data, want) {
		t.Errorf("it says %v, want %v", list.Data, want)
	}
	if len(c.told) != 1 || !c.told["waitsk"] {
		t.Errorf("told of %v", c.told)
	}
}

// nodeRequest returns a request of a node that was authenticated by a certificate; by something else if key is empty.
func nodeRequest(name, key string, issued time.Time, subresource string) authorizer.Attributes {
	who := &user.DefaultInfo{Name: nodeUserPrefix + name, Groups: []string{user.NodesGroup}}
	if key != "" {
		who.Extra = map[string][]string{certificateKeyExtra: {key}, certificateIssuedExtra: {strconv.FormatInt(issued.Unix(), 10)}}
	}
	return authorizer.AttributesRecord{User: who, Verb: "create", Resource: "certificatesigningrequests", Subresource: subresource}
}

// TestNodeGate: a machine that had a name before it was given to another one is refused, and
// cannot get a certificate that would be taken for the other's.
func TestNodeGate(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	joined := now.Add(-time.Hour)
	gate := NewGate()
	owner := func(name string, at time.Time) {
		gate.setGiven(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: GivenPart(name)}}, map[string]string{name: given{key: "mine", at: at, token: "abcdef"}.String()})
	}
	owner("db-1", joined)
	for _, test := range []struct {
		what    string
		request authorizer.Attributes
		refused string
	}{
		{"the machine that has the name", nodeRequest("db-1", "mine", joined, ""), ""},
		{"the machine that has the name, which renews", nodeRequest("db-1", "mine", joined, "selfnodeclient"), ""},
		{"a key to which it has renewed", nodeRequest("db-1", "next", joined.Add(changeoverTime), ""), ""},
		{"one that had the name before", nodeRequest("db-1", "theirs", joined.Add(-time.Second), ""), "was given to another machine"},
		{"one that has renewed when the name was given", nodeRequest("db-1", "theirs", joined.Add(changeoverTime-time.Second), ""), "was given to another machine"},
		{"who speaks for it", nodeRequest("db-1", "", now, ""), ""},
		{"a node of which nothing is known", nodeRequest("db-2", "any", joined, ""), ""},
	} {
		if got := gate.refuses(strings.TrimPrefix(test.request.GetUser().GetName(), nodeUserPrefix), test.request, now); (got == "") != (test.refused == "") || !strings.Contains(got, test.refused) {
			t.Errorf("%s: %q, want %q", test.what, got, test.refused)
		}
	}
	owner("db-1", now.Add(-changeoverTime/2))
	if got := gate.refuses("db-1", nodeRequest("db-1", "mine", now, "selfnodeclient"), now); !strings.Contains(got, "renewed in a minute") {
		t.Errorf("a node whose name was given just now renews: %q", got)
	}
	if got := gate.refuses("db-1", nodeRequest("db-1", "mine", now, ""), now); got != "" {
		t.Errorf("a node whose name was given just now asks for its serving certificate: %q", got)
	}
	gate.setGiven(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: GivenPart("db-1")}}, nil)
	if got := gate.refuses("db-1", nodeRequest("db-1", "theirs", joined.Add(-time.Second), ""), now); got != "" {
		t.Errorf("a list that is gone holds up a node: %q", got)
	}
}

// TestNodeGatePods: the credentials of pods on a revoked node are refused with the node's.
func TestNodeGatePods(t *testing.T) {
	gate := NewGate()
	close(gate.known)
	gate.setRevoked(nil, map[string]string{"db-1": "2026-01-01T00:00:00Z"})
	for node, want := range map[string]authorizer.Decision{"db-1": authorizer.DecisionDeny, "db-2": authorizer.DecisionNoOpinion, "": authorizer.DecisionNoOpinion} {
		who := &user.DefaultInfo{Name: "system:serviceaccount:default:default", Extra: map[string][]string{}}
		if node != "" {
			who.Extra[serviceaccount.NodeNameKey] = []string{node}
		}
		if got, reason, err := gate.Authorize(t.Context(), authorizer.AttributesRecord{User: who}); got != want || err != nil {
			t.Errorf("a pod of node %q: %v (%s), %v, want %v", node, got, reason, err, want)
		}
	}
}

type knows struct{ user.Info }

func (k knows) AuthenticateRequest(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: k.Info}, true, nil
}

// TestNodeCertificates: nodes, and nobody else, get the certificate by which they were authenticated.
func TestNodeCertificates(t *testing.T) {
	issued := time.Unix(1_800_000_000, 0)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "system:node:db-1"}, RawSubjectPublicKeyInfo: []byte("key"), NotBefore: issued.Add(-signerBackdate)}
	for _, test := range []struct {
		who   *user.DefaultInfo
		tells bool
	}{
		{&user.DefaultInfo{Name: "system:node:db-1", UID: "1", Groups: []string{user.NodesGroup}, Extra: map[string][]string{"a": {"b"}}}, true},
		{&user.DefaultInfo{Name: "system:node:db-2", Groups: []string{user.NodesGroup}}, false},
		{&user.DefaultInfo{Name: "system:node:db-1"}, false},
	} {
		request := (&http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}).WithContext(context.Background())
		response, ok, err := Certificates{knows{test.who}}.AuthenticateRequest(request)
		if !ok || err != nil || response.User.GetName() != test.who.Name || response.User.GetUID() != test.who.UID {
			t.Fatal(response, ok, err)
		}
		extra := response.User.GetExtra()
		if !test.tells {
			if len(extra[certificateKeyExtra]) > 0 {
				t.Errorf("%+v: %v", test.who, extra)
			}
			continue
		}
		if len(extra["a"]) != 1 || extra[certificateIssuedExtra][0] != "1800000000" || extra[certificateKeyExtra][0] != keyHash([]byte("key")) {
			t.Errorf("it tells %v", extra)
		}
		if len(test.who.Extra) != 1 {
			t.Error("what another authenticator knows was changed")
		}
	}
}

// TestServingOfDisplaced: what a machine asked for before its name was given to another one, or revoked, is denied.
func TestServingOfDisplaced(t *testing.T) {
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	line := given{key: "mine", at: at, token: "abcdef", registered: true}.String()
	for what, test := range map[string]struct {
		given, revoked bool
		key            string
		issued         time.Time
		want           string
	}{
		"nobody was given the name":              {want: "Approved"},
		"the machine that has the name":          {given: true, key: "mine", issued: at, want: "Approved"},
		"a key to which it has renewed":          {given: true, key: "next", issued: at.Add(changeoverTime), want: "Approved"},
		"the one before":                         {given: true, key: "theirs", issued: at.Add(-time.Hour), want: "Denied"},
		"the one before, which has just renewed": {given: true, key: "theirs", issued: at.Add(changeoverTime - time.Second), want: "Denied"},
		"somebody without a certificate":         {given: true, want: "Denied"},
		"a node that was revoked":                {given: true, revoked: true, key: "mine", issued: at, want: "Denied"},
		"a revoked node of an old cluster":       {revoked: true, key: "mine", issued: at, want: "Denied"},
	} {
		d := newDesk(t, claimant("node-1", time.Hour, "10.0.0.101"))
		maps := d.api.CoreV1().ConfigMaps("kube-system")
		if test.given {
			part := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: GivenPart("node-1")}, Data: map[string]string{"node-1": line}}
			if _, err := maps.Create(t.Context(), part, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if test.revoked {
			if err := RevokeNode(t.Context(), d.api, "node-1", false); err != nil {
				t.Fatal(err)
			}
		}
		csr := servingCSR(t, func(csr *certv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			if test.key != "" {
				csr.Spec.Extra = map[string]certv1.ExtraValue{certificateKeyExtra: {test.key}, certificateIssuedExtra: {strconv.FormatInt(test.issued.Unix(), 10)}}
			}
		})
		d.asks(csr, "waited", time.Minute)
		if d.decides("waited"); d.condition("waited") != test.want {
			t.Errorf("%s: %s, want %s", what, d.condition("waited"), test.want)
		}
	}
}
