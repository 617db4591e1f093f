package controlplane

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const authenticationHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// A file that is wrong in any way is refused before the data directory is created.
func TestAuthenticationFile(t *testing.T) {
	dir := t.TempDir()
	const off, jwt = "anonymous: {enabled: false}\n", "jwt: [{issuer: {url: 'https://issuer.example', audiences: [a]}, claimMappings: {username: {claim: sub, prefix: 'oidc:'}}}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"OIDC":                      {off + jwt, ""},
		"nobody without a name":     {off, ""},
		"nothing said of anonymous": {jwt, "add\nanonymous:\n  conditions:\n  - path: /livez\n"},
		"an unknown field":          {off + "jwts: []", `unknown field "jwts"`},
		"an unknown inner field":    {off + strings.Replace(jwt, "audiences", "audience", 1), `unknown field "jwt[0].issuer.audience"`},
		"two documents":             {off + "---\n" + authenticationHead + jwt, "more than one document"},
		"a field of a wrong type":   {"anonymous: yes", "is not an AuthenticationConfiguration"},
		"an issuer without TLS":     {off + strings.Replace(jwt, "https", "http", 1), "jwt[0].issuer.url"},
		"the cluster's own issuer":  {off + strings.Replace(jwt, "https://issuer.example", serviceAccountIssuer, 1), "jwt[0].issuer.url"},
		"a claim that is none":      {off + strings.Replace(jwt, "claim: sub, prefix: 'oidc:'", "expression: 'claims.'", 1), "jwt[0].claimMappings.username.expression"},
		"conditions of nothing":     {"anonymous: {enabled: false, conditions: [{path: /livez}]}", "anonymous.conditions"},
	} {
		file := testFile(t, dir, "authentication.yaml", authenticationHead+c.text, 0o644)
		wantResolved(t, name, Config{AuthenticationFile: file}, c.want)
	}
	for name, c := range map[string]struct{ file, want string }{
		"a missing file":                {"/nowhere/authentication.yaml", "--authentication-config: stat /nowhere/authentication.yaml: no such file"},
		"a folder":                      {dir, "is a directory"},
		"a file that others may change": {testFile(t, dir, "w.yaml", authenticationHead+off, 0o662), "chmod go-w "},
		"another kind":                  {testFile(t, dir, "other.yaml", admissionHead, 0o644), "but a *apiserver.AdmissionConfiguration"},
		"nothing in it":                 {testFile(t, dir, "empty.yaml", "", 0o644), "is not an AuthenticationConfiguration"},
	} {
		wantResolved(t, name, Config{AuthenticationFile: c.file}, c.want)
	}
}

// checkAnonymousRequests sends anonymous requests, as anybody on the network can.
func checkAnonymousRequests(t *testing.T, address string) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	status := func(method, path string, header ...string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/readyz?verbose", clusterInfoPath} {
		if got := status(http.MethodGet, path); got != http.StatusOK {
			t.Errorf("%s: %d, want 200", path, got)
		}
	}
	for _, path := range []string{"/", "/api", "/apis", "/version", "/version/", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/logs", "/debug/pprof/", "/statusz", "/flagz", "/configz",
		"/livez/ping", "/healthz/etcd", "/.well-known/openid-configuration", "/openid/v1/jwks", "/api/v1/nodes", "/api/v1/namespaces/kube-system/secrets",
		"/api/v1/namespaces/kube-public/configmaps", "/api/v1/namespaces/kube-public/configmaps/everynode-network",
		clusterInfoPath + "/", clusterInfoPath + "/x", "/livez/../api", "//livez", "/livez/", "/livez%2f..%2fapi", "/api/v1/namespaces/kube-system/configmaps/cluster-info"} {
		if got := status(http.MethodGet, path); got != http.StatusUnauthorized {
			t.Errorf("%s: %d, want 401", path, got)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if got := status(method, clusterInfoPath); got != http.StatusForbidden {
			t.Errorf("%s of cluster-info: %d, want 403", method, got)
		}
	}
	// A name that somebody just claims does not count.
	for _, header := range []string{"X-Remote-User: admin", "Impersonate-User: system:admin", "Authorization: Basic YWRtaW46YWRtaW4=", "Authorization: Bearer ", "Authorization: Bearer x"} {
		if got := status(http.MethodGet, "/api", header); got != http.StatusUnauthorized {
			t.Errorf("/api with %s: %d, want 401", header, got)
		}
	}
	if got := status(http.MethodGet, clusterInfoPath, "Impersonate-User: system:admin"); got != http.StatusForbidden {
		t.Errorf("to pose as another without a name: %d, want 403", got)
	}
}

// issuer is an OIDC provider with one key.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func startIssuer(t *testing.T) *issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(i.answer))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answer(w http.ResponseWriter, r *http.Request) {
	b64 := base64.RawURLEncoding.EncodeToString
	answers := map[string]any{
		"/.well-known/openid-configuration": map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"},
		"/keys": map[string]any{"keys": []map[string]string{{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1",
			"n": b64(i.key.N.Bytes()), "e": b64(big.NewInt(int64(i.key.E)).Bytes())}}},
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answers[r.URL.Path])
}

// config returns the file with which a server trusts the issuer.
func (i *issuer) config() string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
	return authenticationHead + fmt.Sprintf("anonymous: {enabled: true, conditions: [{path: /readyz}]}\njwt:\n- issuer: {url: %q, audiences: [everynode], certificateAuthority: %q}\n  claimMappings:\n    username: {claim: email, prefix: 'oidc:'}\n", i.URL, ca)
}

// token returns a token that the issuer gives to somebody.
func (i *issuer) token(t *testing.T, email, audience string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	claims, err := json.Marshal(map[string]any{"iss": i.URL, "aud": audience, "email": email, "email_verified": true, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	text := b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(signature)
}

// checkOIDC sends requests with a token of an issuer that a file names, and with a token
// for another audience.
func checkOIDC(t *testing.T, i *issuer, admin *rest.Config) {
	with := func(token string) kubernetes.Interface {
		cfg := rest.AnonymousClientConfig(admin)
		cfg.BearerToken = token
		return client(t, cfg)
	}
	ada := with(i.token(t, "ada@example.test", "everynode"))
	eventually(t, "the issuer's token gives a name", func(context.Context) (bool, error) {
		_, err := ada.Discovery().ServerVersion()
		return err == nil, nil
	})
	_, err := ada.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "oidc:ada@example.test"`) {
		t.Errorf("what somebody may not do: %v", err)
	}
	if _, err := with(i.token(t, "ada@example.test", "another")).Discovery().ServerVersion(); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token for another audience: %v", err)
	}
	// The file says which anonymous requests are let in: fewer than by default.
	if err := with("").Discovery().RESTClient().Get().AbsPath("/livez").Do(t.Context()).Error(); !apierrors.IsUnauthorized(err) {
		t.Errorf("/livez without a name: %v", err)
	}
}
