package admission

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"
	certlisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// desk is a node controller whose caches the test fills.
type desk struct {
	*nodeController
	t        *testing.T
	api      *fake.Clientset
	requests cache.Indexer
	known    cache.Indexer // Nodes
}

func newDesk(t *testing.T, nodes ...*corev1.Node) *desk {
	indexer := func() cache.Indexer { return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}) }
	d := &desk{t: t, api: fake.NewClientset(), requests: indexer(), known: indexer()}
	for _, n := range nodes {
		if err := d.known.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	d.nodeController = &nodeController{
		client: d.api, csrs: certlisters.NewCertificateSigningRequestLister(d.requests), nodes: corelisters.NewNodeLister(d.known),
		policies: admissionlisters.NewValidatingAdmissionPolicyLister(indexer()), waiting: newWaiting(), told: map[string]bool{},
		queue:  workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[item]()),
		events: record.NewFakeRecorder(10000),
	}
	t.Cleanup(d.queue.ShutDown)
	return d
}

// asks adds a request of that age.
func (d *desk) asks(csr *certv1.CertificateSigningRequest, name string, age time.Duration) {
	d.t.Helper()
	csr.Name, csr.CreationTimestamp = name, metav1.NewTime(time.Now().Add(-age))
	if _, err := d.api.CertificatesV1().CertificateSigningRequests().Create(d.t.Context(), csr, metav1.CreateOptions{}); err != nil {
		d.t.Fatal(err)
	}
	if err := d.requests.Add(csr); err != nil {
		d.t.Fatal(err)
	}
	d.api.ClearActions()
}

// decides decides about a request, and returns the verbs of the calls to the API server. The cache of requests
// learns what has changed.
func (d *desk) decides(name string) (calls []string) {
	d.t.Helper()
	if err := d.decide(d.t.Context(), name); err != nil {
		d.t.Fatal(err)
	}
	for _, action := range d.api.Actions() {
		calls = append(calls, action.GetVerb())
		if action.GetResource().Resource != "certificatesigningrequests" {
			continue
		}
		var err error
		switch a := action.(type) {
		case ktesting.UpdateAction:
			err = d.requests.Update(a.GetObject())
		case ktesting.DeleteAction:
			err = d.requests.Delete(&certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: a.GetName()}})
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	d.api.ClearActions()
	return calls
}

// condition returns what was last said of a request; "" if nothing was, and "deleted" if it is gone.
func (d *desk) condition(name string) string {
	csr, err := d.csrs.Get(name)
	if err != nil {
		return "deleted"
	}
	for _, c := range csr.Status.Conditions {
		return string(c.Type)
	}
	return ""
}

// greedy returns a request of node-1 for an address of node-2; honest returns one of node-2.
func greedy(t *testing.T) *certv1.CertificateSigningRequest {
	return servingCSR(t, func(_ *certv1.CertificateSigningRequest, r *x509.CertificateRequest) {
		r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 102)}
	})
}

func honest(t *testing.T) *certv1.CertificateSigningRequest {
	return servingCSR(t, func(csr *certv1.CertificateSigningRequest, r *x509.CertificateRequest) {
		csr.Spec.Username, r.Subject.CommonName = "system:node:node-2", "system:node:node-2"
		r.DNSNames, r.IPAddresses = []string{"node-2"}, []net.IP{net.IPv4(10, 0, 0, 102)}
	})
}

// TestManyRequestsOfANode: of the requests of a node that cannot be approved few are there, they cost few calls, and
// those of other nodes do not wait for them.
func TestManyRequestsOfANode(t *testing.T) {
	d := newDesk(t, claimant("node-1", time.Hour, "10.0.0.101"), claimant("node-2", time.Hour, "10.0.0.102"))
	const many = 100
	name := func(i int) string { return fmt.Sprintf("greedy-%04d", i) }
	one, calls := greedy(t), 0
	for i := range many {
		d.asks(one.DeepCopy(), name(i), 0)
		calls += len(d.decides(name(i)))
	}
	if calls > 3*waitingOfNode {
		t.Errorf("%d calls before others had their turn", calls)
	}
	d.asks(honest(t), "honest", 0)
	if d.decides("honest"); d.condition("honest") != "Approved" {
		t.Errorf("the request of another node is %q", d.condition("honest"))
	}
	for i := range many {
		if _, waits := d.waiting.turns[name(i)]; waits {
			d.waiting.turns[name(i)] = time.Time{}
		}
		got := d.decides(name(i))
		if got = slices.DeleteFunc(got, func(verb string) bool { return verb == "get" }); len(got) > 2 {
			t.Fatalf("request %d costs %q", i, got)
		}
	}
	left := 0
	for i := range many {
		switch d.condition(name(i)) {
		case "Held":
			left++
			if got := d.decides(name(i)); slices.Contains(got, "update") || slices.Contains(got, "delete") {
				t.Errorf("a request that waits is written again: %q", got)
			}
		case "":
			t.Errorf("request %d was never looked at", i)
		}
	}
	if left != waitingOfNode || d.condition(name(many-1)) != "Held" {
		t.Errorf("%d requests are left, the last is %s", left, d.condition(name(many-1)))
	}
	if len(d.waiting.of) != 1 || len(d.waiting.user) != left || len(d.waiting.turns) != 0 {
		t.Errorf("it knows of %d users, %d requests, %d turns", len(d.waiting.of), len(d.waiting.user), len(d.waiting.turns))
	}
}

// TestTurns: of a user of whom too many requests wait, new ones are looked at one after the other.
func TestTurns(t *testing.T) {
	w, now := newWaiting(), time.Now()
	next := func(i int) *certv1.CertificateSigningRequest {
		return &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("csr-", i)},
			Spec: certv1.CertificateSigningRequestSpec{Username: "system:node:node-1", Groups: []string{"system:nodes"}}}
	}
	for i := range waitingOfNode {
		if turn := w.turn(next(i), now); turn != 0 {
			t.Errorf("request %d waits for %v", i, turn)
		}
		w.add(next(i))
	}
	for i := range 20 {
		csr := next(waitingOfNode + i)
		for range 2 {
			if turn, want := w.turn(csr, now), time.Duration(i+1)*turnEvery; turn != want {
				t.Errorf("request %d waits for %v, want %v", i, turn, want)
			}
		}
		if turn := w.turn(csr, now.Add(time.Duration(i+1)*turnEvery)); turn != 0 {
			t.Errorf("at its turn request %d waits for another %v", i, turn)
		}
	}
	if turn := w.turn(next(0), now); turn != 0 {
		t.Errorf("one that is known waits for %v", turn)
	}
}

// TestManyRequestsOfAToken: many machines join with the same token, and a token can be misused.
func TestManyRequestsOfAToken(t *testing.T) {
	d := newDesk(t, testNode())
	token, err := CreateToken(t.Context(), d.api, TokenSpec{TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	one := joiningCSR(t, func(csr *certv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
		csr.Spec.Username = "system:bootstrap:" + token.ID
	})
	left := 0
	const many = waitingOfToken + 20
	for i := range many {
		name := fmt.Sprintf("join-%04d", i)
		d.asks(one.DeepCopy(), name, 0)
		if d.decides(name); d.condition(name) == "" {
			d.waiting.turns[name] = time.Time{}
			d.decides(name)
		}
	}
	for i := range many {
		if d.condition(fmt.Sprintf("join-%04d", i)) == "Held" {
			left++
		}
	}
	if left != waitingOfToken {
		t.Errorf("%d requests of a token wait", left)
	}
	if err := DeleteToken(t.Context(), d.api, token.ID); err != nil {
		t.Fatal(err)
	}
	d.api.ClearActions()
	last := fmt.Sprintf("join-%04d", many-1)
	if got := d.decides(last); d.condition(last) != "Denied" || len(got) != 2 || len(d.decides(last)) != 0 {
		t.Errorf("without its token it is %s, after %q", d.condition(last), got)
	}
}

// TestOldRequests: a request does not wait forever, and is looked at less and less often.
func TestOldRequests(t *testing.T) {
	for age, want := range map[time.Duration]string{time.Minute: "Held", waitingFor - time.Minute: "Held", waitingFor + time.Minute: "deleted"} {
		d := newDesk(t, claimant("node-1", time.Hour, "10.0.0.101"), claimant("node-2", time.Hour, "10.0.0.102"))
		d.asks(greedy(t), "greedy", age)
		got := d.decides("greedy")
		if d.condition("greedy") != want || (want == "deleted") != (len(d.waiting.user) == 0) {
			t.Errorf("after %v it is %q, after %s", age, d.condition("greedy"), strings.Join(got, ", "))
		}
	}
	for age, want := range map[time.Duration]time.Duration{
		-time.Minute: lookAgain, 0: lookAgain, lookAgain: lookAgain, time.Minute: time.Minute, time.Hour: lookAgainAtMost,
	} {
		if got := lookAfter(age); got != want {
			t.Errorf("a request of %v is looked at after %v, want %v", age, got, want)
		}
	}
}
