package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/cluster-bootstrap/token/jws"
)

const (
	goodToken  = "abcdef.0123456789abcdef"
	goodSecret = "0123456789abcdef"
)

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key, der := sign(t, template, template, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign makes a key and a certificate for it; without a signer it signs itself.
func sign(t *testing.T, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (a authority) issue(t *testing.T, until time.Time) tls.Certificate {
	t.Helper()
	key, der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "system:node:node-1", Organization: []string{"system:nodes"}},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// fakeServer is the part of an API server that joining talks to.
type fakeServer struct {
	*httptest.Server
	info     map[string]string // data of cluster-info; nil: there is none
	token    string            // bearer token that is accepted
	sawToken bool              // a token was sent to fetch cluster-info
}

// newFakeServer serves with a certificate of serving, and says that said is the
// cluster's CA.
func newFakeServer(t *testing.T, serving, said authority) *fakeServer {
	t.Helper()
	f := &fakeServer{token: goodToken}
	f.Server = httptest.NewUnstartedServer(f)
	f.TLS = &tls.Config{Certificates: []tls.Certificate{serving.issue(t, time.Now().Add(time.Hour))}}
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.StartTLS()
	t.Cleanup(f.Close)
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"": {Server: "https://192.0.2.1:6443", CertificateAuthorityData: said.pem}},
	})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := jws.ComputeDetachedSignature(string(kubeconfig), "abcdef", goodSecret)
	if err != nil {
		t.Fatal(err)
	}
	f.info = map[string]string{"kubeconfig": string(kubeconfig), "jws-kubeconfig-abcdef": signature}
	return f
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	reply := func(code int, obj any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(obj) // if a client goes away, its own test fails
	}
	refuse := func(code int32, reason metav1.StatusReason) {
		reply(int(code), metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Reason: reason, Message: string(reason)})
	}
	switch r.URL.Path {
	case "/api/v1/namespaces/kube-public/configmaps/cluster-info":
		f.sawToken = f.sawToken || r.Header.Get("Authorization") != ""
		if f.info == nil {
			refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		reply(http.StatusOK, corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, Data: f.info})
	case "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		if r.Header.Get("Authorization") != "Bearer "+f.token {
			refuse(http.StatusUnauthorized, metav1.StatusReasonUnauthorized)
			return
		}
		reply(http.StatusCreated, authenticationv1.SelfSubjectReview{TypeMeta: metav1.TypeMeta{Kind: "SelfSubjectReview", APIVersion: "authentication.k8s.io/v1"}})
	default:
		http.NotFound(w, r)
	}
}

// joinConfig is a node that joins at server.
func joinConfig(t *testing.T, server *fakeServer) Config {
	t.Helper()
	return Config{Name: "node-1", DataDir: t.TempDir(), Servers: []string{server.URL},
		hosts: []string{server.Listener.Addr().String()}, api: server.URL, Log: discard()}
}

func TestDiscovery(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	tests := []struct {
		name    string
		token   string
		serving authority
		change  func(*fakeServer)
		wantErr []string // parts of the error; none is success
	}{
		{name: "good", token: goodToken, serving: ca},
		{name: "the authority that the token names", token: pinned(ca), serving: ca},
		{name: "another authority than the token names", token: pinned(other), serving: ca, wantErr: []string{"the token abcdef.*** names sha256:", "somebody else answers at that address"}},
		{name: "unknown token", token: "ffffff.0123456789abcdef", serving: ca, wantErr: []string{"does not know the token ffffff.***", "everynode token create"}},
		{name: "wrong secret", token: "abcdef.fedcba9876543210", serving: ca, wantErr: []string{"secret part of the token abcdef.***", "everynode token create"}},
		{name: "changed cluster-info", token: goodToken, serving: ca, wantErr: []string{"secret part"},
			change: func(f *fakeServer) { f.info["kubeconfig"] += "# by somebody in between\n" }},
		{name: "server of another CA", token: goodToken, serving: other, wantErr: []string{"is not signed by the cluster's CA", "--advertise-address"}},
		{name: "deleted between", token: goodToken, serving: ca, wantErr: []string{"no longer accepts the token abcdef.***", "everynode token create"},
			change: func(f *fakeServer) { f.token = "none" }},
		{name: "no cluster-info", token: goodToken, serving: ca, wantErr: []string{"does not publish information for new nodes", "right address"},
			change: func(f *fakeServer) { f.info = nil }},
		{name: "nothing there", token: goodToken, serving: ca, wantErr: []string{"cannot be reached", "--server"},
			change: func(f *fakeServer) { f.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := newFakeServer(t, tt.serving, ca)
			if tt.change != nil {
				tt.change(server)
			}
			got, err := runDiscovery(t.Context(), t, server, tt.token)
			if server.sawToken {
				t.Error("the token was sent to a server that is not trusted yet")
			}
			if len(tt.wantErr) == 0 {
				if err != nil || !bytes.Equal(got, ca.pem) {
					t.Errorf("CA = %s, error %v; want the cluster's", got, err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.wantErr {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if _, secret, _ := strings.Cut(tt.token[:len(goodToken)], "."); strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows the secret", err)
			}
		})
	}
}

func runDiscovery(ctx context.Context, t *testing.T, server *fakeServer, s string) ([]byte, error) {
	t.Helper()
	token, err := parseToken(s)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := newDiscovery(server.URL, token, slog.New(slog.NewTextHandler(&log, nil)))
	d.unreachable, d.unsigned, d.interval = 50*time.Millisecond, 50*time.Millisecond, 10*time.Millisecond
	ca, err := d.run(ctx)
	if strings.Contains(log.String(), token.secret) {
		t.Errorf("the log shows the secret:\n%s", &log)
	}
	return ca, err
}

// One answer from several servers is enough. If it rejects the token, that ends the
// join, although others have not answered yet.
func TestDiscoveryAmongServers(t *testing.T) {
	ca := newAuthority(t)
	alive := newFakeServer(t, ca, ca).Listener.Addr().String()
	dead, gone := deadAddress(t), deadAddress(t)
	for _, tt := range []struct {
		name    string
		token   string
		servers []string
		wantErr []string
		notErr  string
	}{
		{name: "one is dead", token: goodToken, servers: []string{dead, alive}},
		{name: "all are dead", token: goodToken, servers: []string{dead, gone}, wantErr: []string{dead, gone, "cannot be reached"}},
		{name: "wrong secret, one is dead", token: "abcdef.fedcba9876543210", servers: []string{dead, alive}, wantErr: []string{alive, "secret part"}, notErr: dead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, err := parseToken(tt.token)
			if err != nil {
				t.Fatal(err)
			}
			d := newDiscovery("", token, discard())
			d.interval = 10 * time.Millisecond
			if d.unreachable = time.Minute; tt.notErr == "" {
				d.unreachable = 50 * time.Millisecond
			}
			got, err := d.any(t.Context(), tt.servers)
			if len(tt.wantErr) == 0 {
				if err != nil || !bytes.Equal(got, ca.pem) {
					t.Errorf("CA = %s, error %v; want the cluster's", got, err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.wantErr {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if tt.notErr != "" && strings.Contains(err.Error(), tt.notErr) {
				t.Errorf("error %q speaks of %q", err, tt.notErr)
			}
		})
	}
}

// deadAddress is an address of this machine at which nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDiscoveryWaitsForSignature(t *testing.T) {
	ca := newAuthority(t)
	server := newFakeServer(t, ca, ca)
	signed := server.info
	server.info = map[string]string{"kubeconfig": signed["kubeconfig"]}
	tries := 0
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 3 { // the signer has caught up
			server.info = signed
		}
		server.ServeHTTP(w, r)
	})
	token, err := parseToken(goodToken)
	if err != nil {
		t.Fatal(err)
	}
	d := newDiscovery(server.URL, token, discard())
	d.interval = time.Millisecond
	if _, err := d.run(t.Context()); err != nil {
		t.Errorf("a token whose signature appears late: %v", err)
	}
}

func TestParseToken(t *testing.T) {
	const sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, bad := range []string{"", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", goodToken + "\n", goodToken + "0",
		goodToken + "@", goodToken + "@sha256:", goodToken + "@sha256:" + sum[1:], goodToken + "@md5:" + sum, goodToken + "@sha256:X" + sum[1:]} {
		_, err := parseToken(bad)
		if err == nil || !strings.Contains(err.Error(), "malformed") || !strings.Contains(err.Error(), "everynode token create") {
			t.Errorf("parseToken(%q): %v", bad, err)
		}
		if err != nil && strings.Contains(err.Error(), "0123456789") {
			t.Errorf("error %q shows the secret", err)
		}
	}
	if got, err := parseToken(goodToken + "@sha256:" + sum); err != nil || got != (bootstrapToken{"abcdef", goodSecret, "sha256:" + sum}) {
		t.Errorf("with the hash of an authority: %+v, %v", got, err)
	}
}

func TestJoinWritesPrivateFiles(t *testing.T) {
	ca := newAuthority(t)
	server := newFakeServer(t, ca, ca)
	cfg := joinConfig(t, server)
	cfg.Token = goodToken
	if err := join(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{cfg.files().bootstrapKubeconfig(), cfg.files().ca()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, want mode 0600", file, err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.files().bootstrapKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != server.URL || config.BearerToken != goodToken || !bytes.Equal(config.CAData, ca.pem) {
		t.Error("the bootstrap credentials are not for this server, token and CA")
	}
}

func TestCheckJoinable(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), Servers: []string{"https://10.0.0.1:6443"}}
	if err := checkJoinable(cfg); err == nil || !strings.Contains(err.Error(), "without a token: it has not joined yet") {
		t.Errorf("first start without a token: %v", err)
	}
	cfg.NoToken = "there is no file none"
	if err := checkJoinable(cfg); err == nil || !strings.Contains(err.Error(), "it has not joined yet, and there is no file none; ") {
		t.Errorf("first start with a token file that does not exist: %v", err)
	}
	cfg.Token = "nonsense"
	if err := checkJoinable(cfg); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("malformed token: %v", err)
	}
	ca := newAuthority(t)
	writeCredentials(t, cfg, ca, time.Now().Add(-time.Minute))
	cfg.Token = ""
	if err := checkJoinable(cfg); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("expired certificate: %v", err)
	}
	writeCredentials(t, cfg, ca, time.Now().Add(time.Hour))
	if err := checkJoinable(cfg); err != nil {
		t.Errorf("joined node without a token: %v", err)
	}
}

// writeCredentials writes what a kubelet leaves after it has joined.
func writeCredentials(t *testing.T, cfg Config, ca authority, until time.Time) {
	t.Helper()
	pair := ca.issue(t, until)
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})...)
	file := filepath.Join(cfg.DataDir, "pki", "kubelet-client-current.pem")
	if err := writeFile(file, data); err != nil {
		t.Fatal(err)
	}
	const name = "default"
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: "https://192.0.2.1:6443", CertificateAuthorityData: ca.pem}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificate: file, ClientKey: file}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(cfg.files().kubeconfig(), kubeconfig); err != nil {
		t.Fatal(err)
	}
}

// A node that has joined starts without its server, and finds it at its new address. The
// token is no longer there.
func TestJoinKeepsCredentials(t *testing.T) {
	ca := newAuthority(t)
	server := newFakeServer(t, ca, ca)
	server.Close()
	cfg := joinConfig(t, server)
	writeCredentials(t, cfg, ca, time.Now().Add(time.Hour))
	if err := writeFile(cfg.files().bootstrapKubeconfig(), []byte("left by a crash")); err != nil {
		t.Fatal(err)
	}
	if err := join(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.files().kubeconfig())
	if err != nil || config.Host != server.URL {
		t.Errorf("server in the credentials: %v (%v), want %s", config, err, server.URL)
	}
	if _, err := os.Stat(cfg.files().bootstrapKubeconfig()); !os.IsNotExist(err) {
		t.Errorf("the bootstrap credentials are still there (%v)", err)
	}
}

// pinned is the good token with the hash of a CA.
func pinned(a authority) string {
	sum := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
	return goodToken + "@sha256:" + hex.EncodeToString(sum[:])
}

// A machine that has joined one cluster joins another only with --rejoin, although that
// one knows the token.
func TestJoinAnotherCluster(t *testing.T) {
	ca, old := newAuthority(t), newAuthority(t)
	server := newFakeServer(t, ca, ca)
	cfg := joinConfig(t, server)
	writeCredentials(t, cfg, old, time.Now().Add(time.Hour))
	if err := writeFile(cfg.files().ca(), old.pem); err != nil {
		t.Fatal(err)
	}
	refused := func(what, want string) {
		t.Helper()
		if err := join(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if got, err := os.ReadFile(cfg.files().ca()); err != nil || !bytes.Equal(got, old.pem) {
			t.Errorf("%s: the CA that was known is gone (%v)", what, err)
		}
	}
	refused("without a token", "belongs to a different cluster")
	cfg.Token = goodToken
	refused("with a token", "add --rejoin")
	cfg.Token = pinned(ca)
	refused("with a token that names the other authority", "add --rejoin")
	if _, err := os.Stat(cfg.files().kubeconfig()); err != nil {
		t.Errorf("credentials were removed by a join that failed: %v", err)
	}
	if err := os.Remove(cfg.files().kubeconfig()); err != nil {
		t.Fatal(err)
	}
	refused("without credentials, but with a known CA", "add --rejoin")
	cfg.Token, cfg.Rejoin = pinned(old), true
	refused("with --rejoin, and a token of the old cluster", "names sha256:")
	cfg.Token = goodToken
	if err := join(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(cfg.files().ca()); err != nil || !bytes.Equal(got, ca.pem) {
		t.Errorf("the CA after a join is not the cluster's (%v)", err)
	}
}

// Credentials that have expired are replaced in the same cluster.
func TestJoinSameClusterAgain(t *testing.T) {
	ca := newAuthority(t)
	server := newFakeServer(t, ca, ca)
	cfg := joinConfig(t, server)
	writeCredentials(t, cfg, ca, time.Now().Add(-time.Minute))
	if err := writeFile(cfg.files().ca(), ca.pem); err != nil {
		t.Fatal(err)
	}
	cfg.Token = pinned(ca)
	if err := join(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.files().kubeconfig()); !os.IsNotExist(err) {
		t.Errorf("the old credentials are still there (%v)", err)
	}
}

// Only the kubelet's files are forgotten, and nothing else beside them.
func TestForgetCredentials(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}
	for _, name := range []string{"pki/kubelet-client-current.pem", "pki/kubelet-client-2026-01-01-00-00-00.pem", "pki/kubelet-server-current.pem",
		"pki/kubelet-client.key.tmp", "kubelet.kubeconfig", "pki/ca.key", "pki/ca.crt", "pki/service-account.key", "pki/tls/certs/ca-bundle.crt"} {
		if err := writeFile(cfg.files().path(name), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := forgetCredentials(cfg, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.files().path("pki", requestedKey)); err != nil {
		t.Error("the key of a request that is not answered yet is gone:", err)
	}
	for range 2 {
		if err := forgetCredentials(cfg, false); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	err := filepath.WalkDir(cfg.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, strings.TrimPrefix(path, cfg.DataDir+"/"))
		}
		return err
	})
	if want := []string{"pki/ca.crt", "pki/ca.key", "pki/service-account.key", "pki/tls/certs/ca-bundle.crt"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left %q (%v), want %q", left, err, want)
	}
}

// A machine asks again with the key of its former request, but with a new one if it has
// another token.
func TestAsksAgain(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}
	if asksAgain(cfg, []byte("a token")) {
		t.Error("it has asked before it was there")
	}
	if err := writeFile(cfg.files().bootstrapKubeconfig(), []byte("a token")); err != nil {
		t.Fatal(err)
	}
	if !asksAgain(cfg, []byte("a token")) || asksAgain(cfg, []byte("another token")) {
		t.Error("the token does not decide")
	}
}

// A machine that waits for its certificate reports what the cluster says about the
// newest of its requests.
func TestReasonOf(t *testing.T) {
	unusable := errors.New("it has not joined yet")
	csr := func(node string, minute int, conditions ...string) certv1.CertificateSigningRequest {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + node}}, key)
		if err != nil {
			t.Fatal(err)
		}
		c := certv1.CertificateSigningRequest{}
		c.CreationTimestamp = metav1.NewTime(time.Unix(int64(minute)*60, 0))
		c.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		for _, message := range conditions {
			c.Status.Conditions = append(c.Status.Conditions, certv1.CertificateSigningRequestCondition{Message: message})
		}
		return c
	}
	list := []certv1.CertificateSigningRequest{csr("node-1", 2, "newer"), csr("node-1", 1, "older"), csr("node-2", 3, "another's"), csr("node-1", 4)}
	for _, test := range []struct {
		list []certv1.CertificateSigningRequest
		want string
	}{{list, "newer"}, {list[1:], "older"}, {list[2:], unusable.Error()}, {nil, unusable.Error()}} {
		if got := reasonOf(test.list, Config{Name: "node-1"}, unusable); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
