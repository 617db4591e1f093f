package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	exact  = networkingv1.PathTypeExact
	prefix = networkingv1.PathTypePrefix
)

// pathTo returns a path of an Ingress whose requests go to port 80 of a service.
func pathTo(kind networkingv1.PathType, at, service string) networkingv1.HTTPIngressPath {
	return networkingv1.HTTPIngressPath{Path: at, PathType: &kind, Backend: backend(service)}
}

func backend(service string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: service, Port: networkingv1.ServiceBackendPort{Number: 80},
	}}
}

// ingress returns an Ingress with the paths of one host. The greater its age, the older it is.
func ingress(name string, age int, host string, paths ...networkingv1.HTTPIngressPath) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.Unix(int64(1000-age), 0)},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}},
		}}},
	}
}

// build makes a table in a cluster where every service except "missing" exists, at an address that follows from its
// name.
func build(t *testing.T, secrets map[string]*corev1.Secret, list ...*networkingv1.Ingress) (*Table, []string) {
	t.Helper()
	addresses := map[string]string{"one": "10.0.0.1", "two": "10.0.0.2", "three": "10.0.0.3", "four": "10.0.0.4", "headless": "None", "outside": ""}
	table, problems := Build(Objects{
		Ingresses: list,
		Service: func(_, name string) *corev1.Service {
			ip, ok := addresses[name]
			if !ok {
				return nil
			}
			return &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		},
		Secret: func(_, name string) *corev1.Secret { return secrets[name] },
	})
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Ingress.Name+": "+p.Message)
	}
	return table, texts
}

func TestTarget(t *testing.T) {
	fallback := ingress("fallback", 1, "")
	fallback.Spec.Rules, fallback.Spec.DefaultBackend = nil, &networkingv1.IngressBackend{Service: backend("four").Service}
	table, problems := build(t, nil,
		ingress("a", 9, "shop.example", pathTo(prefix, "/", "one"), pathTo(prefix, "/cart", "two"), pathTo(exact, "/cart", "three")),
		ingress("b", 8, "*.example", pathTo(prefix, "/", "two")),
		ingress("c", 7, "", pathTo(prefix, "/status/", "three")),
		ingress("d", 6, "only.example", pathTo(exact, "/here", "one")),
		ingress("e", 5, "closed.test", pathTo(prefix, "/public", "one")),
		fallback)
	if len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
	for _, c := range []struct{ host, at, want string }{
		{"shop.example", "/", "10.0.0.1:80"},
		{"SHOP.example.:8080", "/x", "10.0.0.1:80"},
		{"shop.example", "/cart", "10.0.0.3:80"},
		{"shop.example", "/cart/", "10.0.0.2:80"},
		{"shop.example", "/cart/7", "10.0.0.2:80"},
		{"shop.example", "/cartoon", "10.0.0.1:80"},
		{"shop.example", "", "10.0.0.1:80"},
		{"other.example", "/", "10.0.0.2:80"},
		{"a.b.example", "/", "10.0.0.4:80"}, // a star stands for one label
		{"example", "/", "10.0.0.4:80"},
		{"a.b.example", "/status", "10.0.0.3:80"},
		{"a.b.example", "/status/x", "10.0.0.3:80"},
		{"10.1.1.1", "/status/", "10.0.0.3:80"},
		{"only.example", "/here", "10.0.0.1:80"},
		{"only.example", "/here/", "10.0.0.2:80"},
		{"closed.test", "/public/../admin", "10.0.0.4:80"},
		{"closed.test", "/public//x", "10.0.0.1:80"},
		{"[::1]:80", "/", "10.0.0.4:80"},
	} {
		if got, ok := table.Target(c.host, c.at); !ok || got.Address != c.want {
			t.Errorf("%s%s: %q, %v, want %s", c.host, c.at, got.Address, ok, c.want)
		}
	}
	table, _ = build(t, nil, ingress("a", 1, "shop.example", pathTo(prefix, "/", "one")))
	if got, ok := table.Target("other.example", "/"); ok {
		t.Errorf("nobody's host goes to %v", got)
	}
}

// Problems of an Ingress are reported. Its other parts work, and so do all other Ingresses.
func TestProblems(t *testing.T) {
	named := pathTo(prefix, "/named", "one")
	named.Backend.Service.Port = networkingv1.ServiceBackendPort{Name: "grpc"}
	resource := pathTo(prefix, "/resource", "one")
	resource.Backend = networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{Kind: "Bucket", Name: "b"}}
	bad := ingress("bad", 1, "bad.example", pathTo(prefix, "/gone", "missing"), pathTo(prefix, "/headless", "headless"),
		pathTo(prefix, "/outside", "outside"), named, resource, pathTo(prefix, "/works", "one"))
	bad.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"bad.example"}, SecretName: "nothing"}, {SecretName: "garbage"}, {Hosts: []string{"bad.example"}}}
	thief := ingress("thief", 0, "good.example", pathTo(prefix, "/", "two"))
	table, problems := build(t, map[string]*corev1.Secret{"garbage": {Data: map[string][]byte{"tls.crt": []byte("x")}}},
		thief, bad, ingress("good", 9, "good.example", pathTo(prefix, "/", "one")))
	for _, want := range []string{
		"bad: there is no service missing in the namespace default",
		"bad: the service headless has no address of the cluster: give it a clusterIP",
		"bad: the service outside has no address of the cluster: give it a clusterIP",
		"bad: the service one has no port grpc",
		"bad: a backend is not a service; requests can go to services only",
		"bad: there is no Secret nothing of type kubernetes.io/tls in the namespace default",
		"bad: the Secret garbage has no certificate with its key: ",
		`thief: the path / (Prefix) of the host "good.example" already belongs to the Ingress default/good, which is older`,
	} {
		found := false
		for _, p := range problems {
			found = found || strings.HasPrefix(p, want)
		}
		if !found {
			t.Errorf("%q is not among %q", want, problems)
		}
	}
	if len(problems) != 8 {
		t.Errorf("%d problems: %q", len(problems), problems)
	}
	for at, want := range map[string]string{"/gone": "", "/headless": "", "/works": "10.0.0.1:80"} {
		if got, ok := table.Target("bad.example", at); !ok || got.Address != want {
			t.Errorf("%s: %v, %v", at, got, ok)
		}
	}
	if got, _ := table.Target("good.example", "/"); got.Address != "10.0.0.1:80" {
		t.Errorf("the older Ingress lost its path to %v", got)
	}
}

// of puts an Ingress into a namespace.
func of(namespace string, in *networkingv1.Ingress) *networkingv1.Ingress {
	in.Namespace = namespace
	return in
}

// TestHostsOfOthers: requests for a namespace's host go to that namespace, whatever paths and certificates another
// namespace names for the host.
func TestHostsOfOthers(t *testing.T) {
	self, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	mine := of("shop", ingress("shop", 9, "shop.example", pathTo(prefix, "/cart", "one")))
	more := of("shop", ingress("more", 5, "shop.example", pathTo(prefix, "/more", "three")))
	thief := of("thief", ingress("thief", 7, "SHOP.example", pathTo(prefix, "/login", "two")))
	thief.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"shop.example"}, SecretName: "s"}}
	byName := of("thief", ingress("byname", 6, "free.example", pathTo(prefix, "/", "two")))
	all := of("shop", ingress("all", 4, "", pathTo(prefix, "/health", "one")))
	alsoAll := of("thief", ingress("alsoall", 3, "", pathTo(prefix, "/.well-known", "two")))
	table, problems := build(t, map[string]*corev1.Secret{"s": {Data: pemOf(t, self)}}, alsoAll, all, more, byName, thief, mine)
	for _, test := range []struct{ host, at, want string }{
		{"shop.example", "/cart", "10.0.0.1:80"}, {"shop.example", "/more", "10.0.0.3:80"}, {"shop.example", "/login", ""},
		{"free.example", "/", "10.0.0.2:80"}, {"other.example", "/health", "10.0.0.1:80"}, {"other.example", "/.well-known", ""},
	} {
		if got, ok := table.Target(test.host, test.at); got.Address != test.want || ok != (test.want != "") {
			t.Errorf("%s%s goes to %q", test.host, test.at, got.Address)
		}
	}
	if table.Certificate("shop.example") != nil {
		t.Error("another namespace's certificate is shown for the host")
	}
	want := []string{
		`thief: the host "shop.example" belongs to the namespace shop, whose Ingress shop is older`,
		`thief: the host "shop.example" belongs to the namespace shop, whose Ingress shop is older`,
		`alsoall: requests for unclaimed hosts belong to the namespace shop, whose Ingress all is older`,
	}
	if !slices.Equal(problems, want) {
		t.Errorf("problems: %q", problems)
	}
}

// TestWildcardsOfOthers: what covers a host of another namespace, such as a wildcard, a rule for all hosts or a default
// backend, gets no request for that host, and its certificate is not shown for it.
func TestWildcardsOfOthers(t *testing.T) {
	self, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	mine := of("shop", ingress("shop", 5, "shop.example", pathTo(prefix, "/cart", "one")))
	also := of("shop", ingress("also", 4, "*.shop.test", pathTo(prefix, "/cart", "one")))
	wide := of("wide", ingress("wide", 9, "*.example", pathTo(prefix, "/", "two")))
	wide.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"*.example"}, SecretName: "s"}}
	wide.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: backend("four").Service}
	its := of("wide", ingress("its", 8, "blog.example", pathTo(prefix, "/read", "three")))
	all := of("wide", ingress("all", 7, "", pathTo(prefix, "/login", "two")))
	byName := of("wide", ingress("byname", 6, ""))
	byName.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "s"}}
	table, problems := build(t, map[string]*corev1.Secret{"s": {Data: pemOf(t, self)}}, mine, also, wide, its, all, byName)
	if len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
	for _, test := range []struct{ host, at, want string }{
		{"shop.example", "/cart", "10.0.0.1:80"}, {"shop.example", "/login", ""}, {"shop.example", "/x", ""},
		{"a.shop.test", "/cart", "10.0.0.1:80"}, {"a.shop.test", "/login", ""}, {"a.shop.test", "/x", ""},
		{"blog.example", "/read", "10.0.0.3:80"}, {"blog.example", "/login", "10.0.0.2:80"}, {"a.example", "/x", "10.0.0.2:80"},
		{"other.test", "/login", "10.0.0.2:80"}, {"other.test", "/x", "10.0.0.4:80"},
	} {
		if got, ok := table.Target(test.host, test.at); got.Address != test.want || ok != (test.want != "") {
			t.Errorf("%s%s goes to %q, want %q", test.host, test.at, got.Address, test.want)
		}
	}
	for name, want := range map[string]bool{"shop.example": false, "SHOP.example.": false, "blog.example": true, "a.example": true, "a.shop.test": false} {
		if got := table.Certificate(name); (got != nil) != want {
			t.Errorf("the certificate of the wildcard is shown for %s: %v", name, got != nil)
		}
	}
}

func TestCertificate(t *testing.T) {
	self, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{Data: pemOf(t, self)}
	one, two, three := ingress("one", 9, ""), ingress("two", 8, ""), ingress("three", 7, "")
	one.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"A.example", "*.wild.example"}, SecretName: "s"}}
	two.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"a.example"}, SecretName: "s2"}}
	three.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "s"}} // for the names in it
	table, problems := build(t, map[string]*corev1.Secret{"s": secret, "s2": secret}, one, two, three)
	if len(problems) != 1 || !strings.HasPrefix(problems[0], "two: ") {
		t.Errorf("problems: %q", problems)
	}
	for name, want := range map[string]bool{"a.example": true, "x.wild.example": true, "x.y.wild.example": false, "ingress.invalid": true, "": false, "b.example": false} {
		if got := table.Certificate(name); (got != nil) != want {
			t.Errorf("%q: %v", name, got != nil)
		}
	}
}

// pemOf returns a certificate and its key in the form of a Secret.
func pemOf(t *testing.T, c *tls.Certificate) map[string][]byte {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}

// A request arrives as it was sent, except for what the client says about itself.
func TestProxy(t *testing.T) {
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, strings.Join([]string{r.Method, r.Host, r.URL.RequestURI(), string(body), r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-For")}, " "))
	}))
	defer pod.Close()
	p, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(p)
	defer front.Close()
	if status, _ := get(t, front.URL, "shop.example", "/"); status != http.StatusNotFound {
		t.Errorf("without a table: %d", status)
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	p.Set(&Table{hosts: map[string][]route{"shop.example": {
		{path: "/dead", target: Target{Address: dead.Addr().String()}}, {path: "/gone"}, {target: Target{Address: pod.Listener.Addr().String()}},
	}}})
	for at, want := range map[string]int{"/dead": http.StatusBadGateway, "/gone/x": http.StatusServiceUnavailable, "/%2e%2e/a%2Fb?q=1": http.StatusOK} {
		status, body := get(t, front.URL, "shop.example", at)
		if status != want {
			t.Errorf("%s: %d %s", at, status, body)
		}
		if status == http.StatusOK && body != "POST shop.example "+at+" hello shop.example 127.0.0.1" {
			t.Errorf("the pod was sent %q", body)
		}
	}
}

// get sends a request that claims to come from elsewhere.
func get(t *testing.T, front, host, at string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front+at, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	request.Header.Set("X-Forwarded-For", "192.0.2.1")
	request.Header.Set("X-Forwarded-Host", "bank.example")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// A client that asks for a name with a certificate gets that certificate. Every other client gets one that nobody
// trusts.
func TestHello(t *testing.T) {
	p, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	mine := &tls.Certificate{}
	p.Set(&Table{certificates: map[string]*tls.Certificate{"shop.example": mine}})
	for name, want := range map[string]*tls.Certificate{"shop.example": mine, "other.example": p.unknown, "": p.unknown} {
		if got, err := p.certificate(&tls.ClientHelloInfo{ServerName: name}); err != nil || got != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
