package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"everynode/internal/controlplane/admission"
)

// askToJoin asks for a node's client certificate.
func askToJoin(t *testing.T, c kubernetes.Interface, node string) (csr string) {
	t.Helper()
	subject := pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
	csr, _ = requestCertificate(t, c, certv1.KubeAPIServerClientKubeletSignerName, subject, usages, nil, nil)
	return csr
}

// wantHeld waits until a request is held, and its condition says because.
func wantHeld(t *testing.T, admin kubernetes.Interface, csr, because string) {
	t.Helper()
	eventually(t, "the request is held because "+because, func(ctx context.Context) (bool, error) {
		got, err := admin.CertificatesV1().CertificateSigningRequests().Get(ctx, csr, metav1.GetOptions{})
		if err != nil || len(got.Status.Conditions) == 0 {
			return false, err
		}
		if c := got.Status.Conditions[0]; c.Type != admission.CertificateHeld || !strings.Contains(c.Message, because) || len(got.Status.Certificate) > 0 {
			return false, fmt.Errorf("%s: %s", c.Type, c.Message)
		}
		return true, nil
	})
}

func wantIssued(t *testing.T, admin kubernetes.Interface, csr string) {
	t.Helper()
	awaitCertificate(t, admin, csr)
}

// checkJoinAgain tries to become node-1, which exists.
func checkJoinAgain(t *testing.T, admin, bootstrap kubernetes.Interface) {
	csr := askToJoin(t, bootstrap, "node-1")
	wantHeld(t, admin, csr, "node node-1 exists already")
}

// withToken returns a client that has a new token.
func withToken(t *testing.T, admin kubernetes.Interface, base *rest.Config, spec admission.TokenSpec) kubernetes.Interface {
	t.Helper()
	spec.TTL = time.Hour
	token, err := admission.CreateToken(t.Context(), admin, spec)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(base)
	config.BearerToken = token.String()
	c := client(t, config)
	eventually(t, "the token gives access", func(context.Context) (bool, error) {
		_, err := c.Discovery().ServerVersion()
		return err == nil, nil
	})
	return c
}

// asNode returns a client with a node's certificate.
func asNode(t *testing.T, base *rest.Config, cert, key []byte) kubernetes.Interface {
	t.Helper()
	config := rest.CopyConfig(base)
	config.CertData, config.KeyData = cert, key
	return client(t, config)
}

// wantReplaced waits until the API server no longer accepts a machine that had a node's name.
func wantReplaced(t *testing.T, old kubernetes.Interface, node string) {
	t.Helper()
	eventually(t, "the machine that was "+node+" before is refused", func(ctx context.Context) (bool, error) {
		_, err := old.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "the name "+node+" was given to another machine"), nil
	})
	subject := pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
	if _, _, err := createRequest(t, old, certv1.KubeAPIServerClientKubeletSignerName, subject, usages, nil, nil); !apierrors.IsForbidden(err) {
		t.Errorf("the machine that was %s before asks for a new certificate: %v", node, err)
	}
}

// deleteRequest deletes a request, as Kubernetes does an hour after it was approved.
func deleteRequest(t *testing.T, admin kubernetes.Interface, csr string) {
	t.Helper()
	if err := admin.CertificatesV1().CertificateSigningRequests().Delete(t.Context(), csr, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// checkTokenUses joins with a token for one machine, and with a token for the name node-1.
// It returns node-1's new certificate.
func checkTokenUses(t *testing.T, admin kubernetes.Interface, base *rest.Config) (cert, key []byte) {
	once := withToken(t, admin, base, admission.TokenSpec{Uses: 1})
	first := askToJoin(t, once, "once-1")
	wantIssued(t, admin, first)
	wantHeld(t, admin, askToJoin(t, once, "once-2"), "all uses of the token are spent (it had 1)")
	// Another machine gives its request the name of the deleted one.
	request, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), askToJoin(t, once, "once-1"), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	deleteRequest(t, admin, first)
	again := &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: first},
		Spec: certv1.CertificateSigningRequestSpec{Request: request.Spec.Request, SignerName: request.Spec.SignerName, Usages: request.Spec.Usages}}
	if _, err := once.CertificatesV1().CertificateSigningRequests().Create(t.Context(), again, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, admin, first, "another machine was given the name once-1")

	named := withToken(t, admin, base, admission.TokenSpec{Nodes: []string{"node-1"}, Uses: 1})
	wantHeld(t, admin, askToJoin(t, named, "other"), "for node node-1 only")
	return joinCertificate(t, named, "node-1")
}

// checkNamesInAdvance takes the name of a machine that has not joined yet, without
// registering a node. Even after the request is deleted, no other machine gets the name too.
func checkNamesInAdvance(t *testing.T, admin, bootstrap kubernetes.Interface, base *rest.Config) {
	request, key := requestCertificate(t, bootstrap, certv1.KubeAPIServerClientKubeletSignerName,
		pkix.Name{CommonName: "system:node:db-1", Organization: []string{"system:nodes"}}, []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}, nil, nil)
	thief := asNode(t, base, awaitCertificate(t, bootstrap, request), key)
	deleteRequest(t, admin, request)
	held := askToJoin(t, bootstrap, "db-1")
	wantHeld(t, admin, held, "another machine was given the name db-1 with the token ")
	deleteRequest(t, admin, held) // otherwise it would get the name once that is free

	early := askToServe(t, thief, "db-1", "192.0.2.66")
	wantHeld(t, admin, early, "node db-1 has not reported its addresses yet")
	named := withToken(t, admin, base, admission.TokenSpec{Nodes: []string{"db-1"}, Uses: 1})
	cert, key := joinCertificate(t, named, "db-1")
	wantReplaced(t, thief, "db-1")
	honest := asNode(t, base, cert, key)
	if _, err := honest.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "db-1"}}, metav1.CreateOptions{}); err != nil {
		t.Error("the machine that the name was meant for cannot register:", err)
	}
	checkServing(t, admin, honest, "db-1", "192.0.2.66", early)
	// It leaves, and so gives the name up. Once another machine has joined, its key is worth nothing.
	eventually(t, "it is noted that db-1 has registered", func(ctx context.Context) (bool, error) {
		list, err := admin.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, admission.GivenPart("db-1"), metav1.GetOptions{})
		return err == nil && strings.HasSuffix(list.Data["db-1"], " registered"), err
	})
	if err := honest.CoreV1().Nodes().Delete(t.Context(), "db-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wantIssued(t, admin, askToJoin(t, bootstrap, "db-1"))
	wantReplaced(t, honest, "db-1")
}

// checkStolen plays the theft and the replacement of a machine. The thief's credentials
// stay refused, and so do those of the pods there. The new machine is accepted.
func checkStolen(t *testing.T, admin, bootstrap kubernetes.Interface, base *rest.Config) {
	ctx := t.Context()
	cert, key := joinCertificate(t, bootstrap, "rack-1")
	stolen := asNode(t, base, cert, key)
	if _, err := stolen.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "rack-1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := podWithToken(t, admin, base, "rack-1")
	refused := func(context.Context) (bool, error) {
		_, err := pod.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		return strings.Contains(fmt.Sprint(err), "node rack-1, on which this pod ran, was revoked"), nil
	}
	if yes, _ := refused(ctx); yes {
		t.Error("a pod is refused before its node is revoked")
	}
	if err := admission.RevokeNode(ctx, admin, "rack-1", false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pod of a revoked node is refused", refused)
	wantHeld(t, admin, askToJoin(t, bootstrap, "rack-1"), "node rack-1 was revoked after the token was made")
	fresh := withToken(t, admin, base, admission.TokenSpec{Nodes: []string{"rack-1"}, Uses: 1})
	request, key := requestCertificate(t, fresh, certv1.KubeAPIServerClientKubeletSignerName,
		pkix.Name{CommonName: "system:node:rack-1", Organization: []string{"system:nodes"}}, []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}, nil, nil)
	wantHeld(t, admin, request, "everynode kubectl delete node rack-1")
	now := int64(0)
	if err := errors.Join(admin.CoreV1().Pods(metav1.NamespaceDefault).Delete(ctx, "on-rack-1", metav1.DeleteOptions{GracePeriodSeconds: &now}),
		admin.CoreV1().Nodes().Delete(ctx, "rack-1", metav1.DeleteOptions{})); err != nil {
		t.Fatal(err)
	}
	replaced := asNode(t, base, awaitCertificate(t, admin, request), key)
	eventually(t, "the machine that takes the place is heard", func(ctx context.Context) (bool, error) {
		_, err := replaced.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err == nil, nil
	})
	wantReplaced(t, stolen, "rack-1")
	if err := admission.RevokeNode(ctx, admin, "rack-1", true); err == nil || !strings.Contains(err.Error(), "not revoked") {
		t.Errorf("the name is still on the list of revoked ones: %v", err)
	}
}

// podWithToken returns a client with the token that a pod on a node has.
func podWithToken(t *testing.T, admin kubernetes.Interface, base *rest.Config, node string) kubernetes.Interface {
	t.Helper()
	pod, err := admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "on-" + node},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := admin.CoreV1().ServiceAccounts(metav1.NamespaceDefault).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(kubeletAsks.Seconds())),
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(expiry(t, got.Status.Token)); left > kubeletAsks {
		t.Errorf("the token of a pod is valid for %v, and its kubelet asked for %v", left, kubeletAsks)
	}
	config := rest.CopyConfig(base)
	config.BearerToken = got.Status.Token
	return client(t, config)
}

// kubeletAsks is for how long a kubelet asks for the token that every pod gets.
const kubeletAsks = 3607 * time.Second

// expiry returns when a token ends, as it says itself.
func expiry(t *testing.T, token string) time.Time {
	t.Helper()
	var claims struct {
		Expires int64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(claims.Expires, 0)
}

// checkOtherNodes tries, as node-1 and as a new node, to take what is not theirs.
func checkOtherNodes(t *testing.T, admin, node, bootstrap kubernetes.Interface, base *rest.Config) {
	evil := rest.CopyConfig(base)
	evil.CertData, evil.KeyData = joinCertificate(t, bootstrap, "evil")
	as := client(t, evil)
	refused := func(what string, err error, because string) {
		t.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), because) {
			t.Errorf("%s: %v, want a refusal with %q", what, err, because)
		}
	}
	create := func(spec corev1.NodeSpec, addresses ...string) error {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "evil"}, Spec: spec}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		_, err := as.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	eventually(t, "the policies are in force", func(context.Context) (bool, error) {
		return apierrors.IsForbidden(create(corev1.NodeSpec{PodCIDR: "0.0.0.0/1", PodCIDRs: []string{"0.0.0.0/1"}})), nil
	})
	for _, cidr := range []string{"0.0.0.0/1", "192.0.2.10/32", "198.18.0.0/16", "198.18.1.0/25"} {
		refused("to create a Node with the pods "+cidr, create(corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}}), "may not choose its pod range")
	}
	if err := create(corev1.NodeSpec{}, "192.0.2.9", "2001:db8::9", "evil"); err != nil {
		t.Error("an honest Node cannot be created:", err)
	}
	eventually(t, "the cluster knows the address of node-1", func(context.Context) (bool, error) {
		return apierrors.IsForbidden(create(corev1.NodeSpec{}, "192.0.2.1")), nil
	})
	refused("an address of node-1", create(corev1.NodeSpec{}, "192.0.2.1"), "belongs to node node-1")
	refused("the name of node-1", create(corev1.NodeSpec{}, "NODE-1"), "belongs to node node-1")
	refused("the address of a service", create(corev1.NodeSpec{}, "198.19.0.1"), "in the ranges of pods or services")
	refused("the address of a pod", create(corev1.NodeSpec{}, "198.18.0.7"), "in the ranges of pods or services")
	refused("everybody's address", create(corev1.NodeSpec{}, "127.0.0.1"), "every machine's")
	refused("two addresses of a family", create(corev1.NodeSpec{}, "192.0.2.9", "192.0.2.11"), "more than one IPv4 and one IPv6 address")
	refused("more names than a machine has", create(corev1.NodeSpec{}, "a.example", "b.example", "c.example"), "and two names")
	refused("a wildcard", create(corev1.NodeSpec{}, "*.default.svc"), "neither an IP address nor a name")
	refused("a hidden IPv4 address", create(corev1.NodeSpec{}, "::ffff:198.19.0.1"), "neither an IP address nor a name")
	refused("the server's address, spelled otherwise", create(corev1.NodeSpec{}, "2001:DB8:0::5"), "an address of the server on "+machineName())
	refused("the server's name", create(corev1.NodeSpec{}, "API.example.test"), "an address of the server on "+machineName())

	for _, label := range []string{admission.SimulatedLabel, admission.FormerSimulatedLabel} {
		simulated := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "evil", Labels: map[string]string{label: "true"}}}
		_, err := as.CoreV1().Nodes().Create(t.Context(), simulated, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		refused("a node that is not compared with others, by "+label, err, "may not say that it is simulated")
	}

	checkMachineLabels(t, admin, as, refused)
	if _, err := as.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "evil"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{admission.SimulatedLabel, admission.FormerSimulatedLabel} {
		_, err := as.CoreV1().Nodes().Patch(t.Context(), "evil", "application/merge-patch+json",
			[]byte(`{"metadata":{"labels":{"`+label+`":"true"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		refused("to become such a node, by "+label, err, "may not say that it is simulated")
	}
	report := func(c kubernetes.Interface, name string, kind corev1.NodeAddressType, address string) error {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"addresses": []corev1.NodeAddress{{Type: kind, Address: address}}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CoreV1().Nodes().PatchStatus(t.Context(), name, patch)
		return err
	}
	refused("to report node-1's address", report(as, "evil", corev1.NodeExternalIP, "192.0.2.1"), "belongs to node node-1")
	refused("to change an address to another's", report(node, "node-1", corev1.NodeInternalIP, "198.19.0.1"), "in the ranges of pods or services")
	patchSpec := func(c kubernetes.Interface, name, spec string) error {
		_, err := c.CoreV1().Nodes().Patch(t.Context(), name, "application/strategic-merge-patch+json", []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	// It has no range yet, or one that cannot be changed anyway: both are refused.
	if err := patchSpec(as, "evil", `{"podCIDR":"192.0.2.10/32","podCIDRs":["192.0.2.10/32"]}`); err == nil {
		t.Error("a node chose its pod range after its Node was made")
	}
	if err := patchSpec(node, "node-1", `{"unschedulable":true}`); err != nil {
		t.Error("a node cannot change what is its own:", err)
	}
	subject := pkix.Name{CommonName: "system:node:evil", Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth}
	csr, _ := requestCertificate(t, as, certv1.KubeletServingSignerName, subject, usages, nil, []net.IP{net.ParseIP("192.0.2.1")})
	wantHeld(t, admin, csr, "192.0.2.1 also belongs to node node-1")
	checkClaims(t, admin, as, node, report)
	checkRevoked(t, admin, as, node)
	checkLeaving(t, admin, as)
}

// checkClaims checks the list of addresses: nodes cannot write it, it comes back
// when it is deleted, and an address that its node gives up becomes free.
func checkClaims(t *testing.T, admin, evil, node kubernetes.Interface, report func(kubernetes.Interface, string, corev1.NodeAddressType, string) error) {
	claims := admin.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	patch := []byte(`{"data":{"192.0.2.1":"evil"}}`)
	if _, err := evil.CoreV1().ConfigMaps(metav1.NamespaceSystem).Patch(t.Context(), admission.NodeAddresses, "application/merge-patch+json", patch, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node writes who has which address: %v", err)
	}
	owner := func(key, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s is the address of %q", key, want), func(ctx context.Context) (bool, error) {
			list, err := claims.Get(ctx, admission.NodeAddresses, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && list.Data[key] == want, err
		})
	}
	if err := claims.Delete(t.Context(), admission.NodeAddresses, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The next change of an address brings the whole list back.
	if err := report(evil, "evil", corev1.NodeExternalIP, "2001:db8:0::9"); err != nil {
		t.Fatal(err)
	}
	owner("2001_db8__9", "evil")
	owner("192.0.2.1", "node-1")
	taken := []byte(`{"status":{"addresses":[{"type":"ExternalIP","address":"2001:DB8::0:9"}]}}`)
	eventually(t, "node-1 may not have the address of evil, however it is spelled", func(ctx context.Context) (bool, error) {
		_, err := node.CoreV1().Nodes().Patch(ctx, "node-1", "application/strategic-merge-patch+json", taken, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "belongs to node evil"), nil
	})
	if err := report(evil, "evil", corev1.NodeExternalIP, "192.0.2.77"); err != nil {
		t.Fatal(err)
	}
	owner("2001_db8__9", "")
}

// checkRevoked revokes a node. With its certificate, which a thief would still have,
// nobody can read or write anything, or get a new certificate.
func checkRevoked(t *testing.T, admin, evil, node kubernetes.Interface) {
	if err := admission.RevokeNode(t.Context(), admin, "evil", true); err == nil || !strings.Contains(err.Error(), "not revoked") {
		t.Errorf("to undo what was not done: %v", err)
	}
	for range 2 {
		if err := admission.RevokeNode(t.Context(), admin, "evil", false); err != nil {
			t.Fatal(err)
		}
	}
	reads := func() error {
		_, err := evil.CoreV1().Nodes().Get(t.Context(), "evil", metav1.GetOptions{})
		return err
	}
	eventually(t, "a revoked node reads nothing", func(context.Context) (bool, error) {
		return apierrors.IsForbidden(reads()), nil
	})
	if err := reads(); !strings.Contains(err.Error(), "node evil was revoked") {
		t.Errorf("it is told %v", err)
	}
	subject := pkix.Name{CommonName: "system:node:evil", Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
	if _, _, err := createRequest(t, evil, certv1.KubeAPIServerClientKubeletSignerName, subject, usages, nil, nil); !apierrors.IsForbidden(err) {
		t.Errorf("a revoked node asks for a new certificate: %v", err)
	}
	patch := []byte(`{"metadata":{"annotations":{"x":"y"}}}`)
	if _, err := evil.CoreV1().Nodes().Patch(t.Context(), "evil", "application/merge-patch+json", patch, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a revoked node writes: %v", err)
	}
	if _, err := evil.Discovery().ServerGroups(); !apierrors.IsForbidden(err) {
		t.Errorf("a revoked node looks around: %v", err)
	}
	if _, err := node.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{}); err != nil {
		t.Errorf("another node: %v", err)
	}
	if err := admission.RevokeNode(t.Context(), admin, "evil", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is accepted again", func(context.Context) (bool, error) { return reads() == nil, nil })
}

// checkLeaving does what a node that leaves does, with its own credentials: it
// cordons its Node, evicts its pods, and deletes the Node unless it would gain by that.
func checkLeaving(t *testing.T, admin, evil kubernetes.Interface) {
	nodes, pods := admin.CoreV1().Nodes(), evil.CoreV1().Pods(metav1.NamespaceDefault)
	for pod, node := range map[string]string{"here": "evil", "there": "node-1"} {
		spec := corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}}
		_, err := admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod}, Spec: spec}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	cordon := []byte(`{"spec":{"unschedulable":true}}`)
	if _, err := evil.CoreV1().Nodes().Patch(t.Context(), "evil", "application/merge-patch+json", cordon, metav1.PatchOptions{}); err != nil {
		t.Error("a node cannot cordon its own Node:", err)
	}
	evict := func(pod string) error {
		return pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: metav1.NamespaceDefault}})
	}
	if err := evict("here"); err != nil {
		t.Error("a node cannot evict a pod of its own:", err)
	}
	if err := evict("there"); !apierrors.IsForbidden(err) {
		t.Errorf("a node evicts another node's pod: %v", err)
	}
	leave := func(name string) error {
		return evil.CoreV1().Nodes().Delete(t.Context(), name, metav1.DeleteOptions{})
	}
	if err := leave("node-1"); !apierrors.IsForbidden(err) {
		t.Errorf("a node deletes another Node: %v", err)
	}
	if err := evil.CoreV1().Nodes().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node deletes all Nodes: %v", err)
	}
	checkLeavingWith(t, nodes, leave)
	lifecycle := `{"spec":{"taints":[{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"}]},"metadata":{"labels":{"node-role.kubernetes.io/agent":"","kubernetes.io/os":"linux","disk":"ssd"}}}`
	if _, err := nodes.Patch(t.Context(), "evil", "application/merge-patch+json", []byte(lifecycle), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := leave("evil"); err != nil {
		t.Error("a node cannot leave:", err)
	}
	if _, err := nodes.Get(t.Context(), "evil", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its Node is still there: %v", err)
	}
}

// checkLeavingWith tries to delete the Node evil while it has something that a node
// may not remove from itself.
func checkLeavingWith(t *testing.T, nodes typedcorev1.NodeInterface, leave func(string) error) {
	for what, set := range map[string][2]string{
		"taint dedicated": {`{"spec":{"taints":[{"key":"dedicated","value":"storage","effect":"NoSchedule"}]}}`, `{"spec":{"taints":null}}`},
		"taint node.kubernetes.io/out-of-service": {`{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute"}]}}`,
			`{"spec":{"taints":null}}`},
		"label node-restriction.kubernetes.io/pci": {`{"metadata":{"labels":{"node-restriction.kubernetes.io/pci":"yes"}}}`,
			`{"metadata":{"labels":{"node-restriction.kubernetes.io/pci":null}}}`},
	} {
		patch := func(change string) {
			if _, err := nodes.Patch(t.Context(), "evil", "application/merge-patch+json", []byte(change), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		patch(set[0])
		err := leave("evil")
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "with the "+what+", or it could come back without: on a server, everynode kubectl delete node evil") {
			t.Errorf("a node gets rid of the %s: %v", what, err)
		}
		patch(set[1])
	}
}
