package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"

	"everynode/internal/addons"
	"everynode/internal/controlplane/admission"
)

// againDir names, for the process that TestRun starts, the data directory
// of the cluster to start a second time.
const againDir = "EVERYNODE_TEST_DATA_DIR"

func dialSocket(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
}

// running is a control plane under test.
type running struct {
	cfg   Config
	admin kubernetes.Interface
	// adminConfig is what admin was made from.
	adminConfig *rest.Config
	stop        context.CancelFunc
	result      chan error
}

// startServer runs a control plane until the test or stop ends it.
func startServer(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cfg: cfg, stop: cancel, result: make(chan error, 1)}
	ready := make(chan struct{})
	go func() { r.result <- Run(ctx, cfg, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-r.result:
		cancel()
		t.Fatal("the control plane did not start: ", err)
	}
	admin, err := clientcmd.BuildConfigFromFlags("", filepath.Join(cfg.DataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	r.admin, r.adminConfig = client(t, admin), admin
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.result; err != nil {
		t.Error("a clean stop gives: ", err)
	}
}

func client(t *testing.T, cfg *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits until check is true or fails the test.
func eventually(t *testing.T, what string, check func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestRun starts a control plane once, because it can run only once in a
// process, and checks it from all sides. Then another process starts what it
// has left behind again.
func TestRun(t *testing.T) {
	engine := make(chan error, 1)
	cfg := Config{
		DataDir: filepath.Join(t.TempDir(), "data"), Listen: freeAddress(t),
		PodCIDR: "198.18.0.0/16", ServiceCIDR: "198.19.0.0/16", SANs: []string{"api.example.test", "2001:db8::5"},
		HostPathPolicy: HostPathsWarn, Addons: addons.All(), Audit: true, Simulator: true,
		DaemonSets: func(ctx context.Context, cfg *rest.Config) error {
			engine <- checkEngineRights(ctx, cfg)
			<-ctx.Done()
			return nil
		},
	}
	r := startServer(t, cfg)
	t.Run("policy", func(t *testing.T) { checkPolicy(t, r.admin) })
	t.Run("host paths", func(t *testing.T) { checkHostPathPolicy(t, r.admin, 1) })
	t.Run("releases in waves", func(t *testing.T) { checkRolloutKinds(t, r) })
	t.Run("dns", func(t *testing.T) { checkDNSObjects(t, r.admin) })
	t.Run("addons", func(t *testing.T) { checkAddons(t, r.admin) })
	t.Run("service", func(t *testing.T) { checkService(t, r.admin) })
	t.Run("engine", func(t *testing.T) {
		if err := <-engine; err != nil {
			t.Error(err)
		}
	})
	t.Run("join", func(t *testing.T) { checkJoin(t, r) })
	t.Run("controllers", func(t *testing.T) { checkControllers(t, r.admin) })
	t.Run("pod security", func(t *testing.T) { checkPodSecurity(t, r.admin) })
	t.Run("anonymous requests", func(t *testing.T) { checkAnonymousRequests(t, cfg.Listen) })
	t.Run("simulator", func(t *testing.T) { checkSimulator(t, r.admin, true) })
	t.Run("encryption", func(t *testing.T) { checkEncrypted(t, r) })
	t.Run("rotation", func(t *testing.T) { checkRotation(t, r) })
	t.Run("rotation of the CA", func(t *testing.T) { checkRotateCA(t, r) })
	t.Run("front proxy", func(t *testing.T) { checkFrontProxy(t, r) })
	t.Run("audit", func(t *testing.T) { checkAudit(t, r) })
	r.end(t)
	checkGoroutines(t)
	t.Run("again", func(t *testing.T) { startAgain(t, cfg) })
}

// checkService waits for the service: the API server creates it after it has
// begun to serve.
func checkService(t *testing.T, admin kubernetes.Interface) {
	eventually(t, "the service kubernetes at 198.19.0.1", func(ctx context.Context) (bool, error) {
		service, err := admin.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && service.Spec.ClusterIP == "198.19.0.1", err
	})
}

// checkEngineRights returns an error unless the engine may do its work, and nothing else.
func checkEngineRights(ctx context.Context, cfg *rest.Config) error {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if _, err := c.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{}); err != nil {
		return err
	}
	if _, err := c.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("the engine's identity can list secrets (%w)", err)
	}
	return nil
}

// checkJoin does what a new machine does: it checks cluster-info with a token,
// gets a certificate, and then has only a node's rights.
func checkJoin(t *testing.T, r *running) {
	token, err := admission.CreateToken(t.Context(), r.admin, admission.TokenSpec{TTL: time.Hour, Description: "test"})
	if err != nil {
		t.Fatal(err)
	}
	base := trustedConfig(t, r.cfg.Listen, token)

	bootstrap := rest.CopyConfig(base)
	bootstrap.BearerToken = token.String()
	node := rest.CopyConfig(base)
	node.CertData, node.KeyData = joinCertificate(t, client(t, bootstrap), "node-1")
	checkNodeRights(t, r.admin, client(t, node))
	checkNodeAdmission(t, r.admin, client(t, node))
	checkJoinAgain(t, r.admin, client(t, bootstrap))
	old := client(t, node)
	node.CertData, node.KeyData = checkTokenUses(t, r.admin, base)
	wantReplaced(t, old, "node-1")
	checkNamesInAdvance(t, r.admin, client(t, bootstrap), base)
	checkStolen(t, r.admin, client(t, bootstrap), base)
	checkOtherNodes(t, r.admin, client(t, node), client(t, bootstrap), base)
	checkAttempts(t, r, base, bootstrap, node)

	if err := admission.DeleteToken(t.Context(), r.admin, token.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a deleted token gives access", func(ctx context.Context) (bool, error) {
		_, err := client(t, bootstrap).Discovery().ServerVersion()
		return apierrors.IsUnauthorized(err), nil
	})
	wrong := rest.CopyConfig(base)
	wrong.BearerToken = token.ID + ".0123456789abcdef"
	if _, err := client(t, wrong).Discovery().ServerVersion(); !apierrors.IsUnauthorized(err) {
		t.Errorf("a wrong token gives %v", err)
	}
}

// trustedConfig reads cluster-info without trust, as a machine that knows only
// the token does, and returns a configuration that trusts what was signed.
func trustedConfig(t *testing.T, address string, token admission.Token) *rest.Config {
	blind := client(t, &rest.Config{Host: "https://" + address, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	var kubeconfig string
	eventually(t, "cluster-info is signed with the token", func(ctx context.Context) (bool, error) {
		info, err := blind.CoreV1().ConfigMaps("kube-public").Get(ctx, bootstrapapi.ConfigMapClusterInfo, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		kubeconfig = info.Data[bootstrapapi.KubeConfigKey]
		return jws.DetachedTokenIsValid(info.Data[bootstrapapi.JWSSignatureKeyPrefix+token.ID], kubeconfig, token.ID, token.Secret), nil
	})
	if _, err := blind.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("anonymous access to secrets gives %v", err)
	}
	info, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	cluster := info.Clusters[""]
	return &rest.Config{Host: cluster.Server, TLSClientConfig: rest.TLSClientConfig{CAData: cluster.CertificateAuthorityData}}
}

// joinCertificate asks for a node's client certificate and waits for it.
func joinCertificate(t *testing.T, c kubernetes.Interface, node string) (cert, key []byte) {
	subject := pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
	csr, key := requestCertificate(t, c, certv1.KubeAPIServerClientKubeletSignerName, subject, usages, nil, nil)
	return awaitCertificate(t, c, csr), key
}

func requestCertificate(t *testing.T, c kubernetes.Interface, signer string, subject pkix.Name, usages []certv1.KeyUsage, names []string, ips []net.IP) (name string, keyPEM []byte) {
	t.Helper()
	name, keyPEM, err := createRequest(t, c, signer, subject, usages, names, ips)
	if err != nil {
		t.Fatal(err)
	}
	return name, keyPEM
}

func createRequest(t *testing.T, c kubernetes.Interface, signer string, subject pkix.Name, usages []certv1.KeyUsage, names []string, ips []net.IP) (name string, keyPEM []byte, err error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key); err != nil {
		t.Fatal(err)
	}
	request, err := certutil.MakeCSR(key, &subject, names, ips)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := c.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		Spec:       certv1.CertificateSigningRequestSpec{Request: request, SignerName: signer, Usages: usages},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", nil, err
	}
	return csr.Name, keyPEM, nil
}

// awaitCertificate waits until a request has its certificate.
func awaitCertificate(t *testing.T, c kubernetes.Interface, csr string) (cert []byte) {
	t.Helper()
	var conditions []certv1.CertificateSigningRequestCondition
	defer func() {
		if len(cert) == 0 {
			t.Logf("what is said of the request: %+v", conditions)
		}
	}()
	eventually(t, "the certificate is issued", func(ctx context.Context) (bool, error) {
		got, err := c.CertificatesV1().CertificateSigningRequests().Get(ctx, csr, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		cert, conditions = got.Status.Certificate, got.Status.Conditions
		return len(cert) > 0, nil
	})
	return cert
}

// checkNodeRights binds a pod with a secret to node-2 and reads that secret as node-1.
func checkNodeRights(t *testing.T, admin, node kubernetes.Interface) {
	if _, err := admin.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "theirs"},
		Spec: corev1.PodSpec{
			NodeName:   "node-2",
			Containers: []corev1.Container{{Name: "c", Image: "none"}},
			Volumes:    []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "theirs"}}}},
		},
	}
	eventually(t, "a pod can be made", func(ctx context.Context) (bool, error) {
		_, err := admin.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err), ignoreForbidden(err) // its service account comes a moment later
	})
	if _, err := node.CoreV1().Secrets("default").Get(t.Context(), "theirs", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("node-1 reads a secret of node-2: %v", err)
	}
	if _, err := node.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("a node cannot list nodes: %v", err)
	}
}

func ignoreForbidden(err error) error {
	if apierrors.IsForbidden(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// checkNodeAdmission registers node-1 and looks at what our node controller does.
func checkNodeAdmission(t *testing.T, admin, node kubernetes.Interface) {
	subject := pkix.Name{CommonName: "system:node:node-1", Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth}
	ask := func(name string, ip string) string {
		csr, _ := requestCertificate(t, node, certv1.KubeletServingSignerName, subject, usages, []string{name}, []net.IP{net.ParseIP(ip)})
		return csr
	}
	early := ask("node-1", "192.0.2.1")
	if _, err := node.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has a role", func(ctx context.Context) (bool, error) {
		got, err := admin.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		_, ok := got.Labels[admission.AgentRoleLabel]
		return ok, nil
	})
	patch := []byte(`{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"},{"type":"Hostname","address":"node-1"}]}}`)
	if _, err := node.CoreV1().Nodes().PatchStatus(t.Context(), "node-1", patch); err != nil {
		t.Fatal(err)
	}
	foreign := ask("node-1", "192.0.2.2")
	eventually(t, "the node's serving certificate is issued", func(ctx context.Context) (bool, error) {
		got, err := admin.CertificatesV1().CertificateSigningRequests().Get(ctx, early, metav1.GetOptions{})
		return err == nil && len(got.Status.Certificate) > 0, err
	})
	eventually(t, "the refusal is an event of the node", func(ctx context.Context) (bool, error) {
		events, err := admin.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=CertificateHeld"})
		return err == nil && len(events.Items) > 0 && strings.Contains(events.Items[0].Message, "192.0.2.2"), err
	})
	got, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), foreign, metav1.GetOptions{})
	if err != nil || admission.Decided(got) {
		t.Errorf("a request for another node's address was decided: %+v, %v", got.Status.Conditions, err)
	}
	eventually(t, "the node has a pod range", func(ctx context.Context) (bool, error) {
		got, err := admin.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
		return err == nil && strings.HasPrefix(got.Spec.PodCIDR, "198.18."), err
	})
}

// checkSimulator looks for the rights of the simulator, which may end any pod.
func checkSimulator(t *testing.T, admin kubernetes.Interface, wanted bool) {
	_, role := admin.RbacV1().ClusterRoles().Get(t.Context(), simulatorUser, metav1.GetOptions{})
	_, binding := admin.RbacV1().ClusterRoleBindings().Get(t.Context(), simulatorUser, metav1.GetOptions{})
	_, leases := admin.RbacV1().RoleBindings("kube-node-lease").Get(t.Context(), simulatorUser, metav1.GetOptions{})
	_, flow := admin.FlowcontrolV1().FlowSchemas().Get(t.Context(), "everynode-simulator-heartbeats", metav1.GetOptions{})
	for _, err := range []error{role, binding, leases, flow} {
		if wanted && err != nil || !wanted && !apierrors.IsNotFound(err) {
			t.Errorf("wanted %v: %v", wanted, err)
		}
	}
}

// checkControllers uses Deployments, namespaces and their garbage collection.
func checkControllers(t *testing.T, admin kubernetes.Interface) {
	ctx, name := t.Context(), "short-lived"
	if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	two := int32(2)
	labels := map[string]string{"app": name}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &two,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
			},
		},
	}
	if _, err := admin.AppsV1().Deployments(name).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Deployment has its pods", func(ctx context.Context) (bool, error) {
		pods, err := admin.CoreV1().Pods(name).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == 2, err
	})
	if err := admin.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func(ctx context.Context) (bool, error) {
		_, err := admin.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

// checkGoroutines fails if code of this package still runs besides the test. A
// goroutine that has sent its result is given the moment that it needs to end.
func checkGoroutines(t *testing.T) {
	t.Helper()
	var left []string
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 5*time.Second, true, func(context.Context) (bool, error) {
		left = ourGoroutines()
		return len(left) == 0, nil
	})
	if err != nil {
		t.Errorf("goroutines of ours are left:\n%s", strings.Join(left, "\n\n"))
	}
}

// ourGoroutines returns the stacks in which this package, or one below it, has a part, except
// the test's own.
func ourGoroutines() []string {
	buf := make([]byte, 64<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return slices.DeleteFunc(stacks, func(stack string) bool {
		ours := strings.Contains(stack, "everynode/internal/controlplane")
		return !ours || strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "fatalHook")
	})
}

// startAgain runs TestRunAgain on the same data in a new process.
func startAgain(t *testing.T, cfg Config) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunAgain$", "-test.v")
	cmd.Env = append(os.Environ(), againDir+"="+cfg.DataDir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRunAgain") {
		t.Errorf("the second start: %v\n%s", err, out)
	}
}

// TestRunAgain is the second start of TestRun's cluster, at another port.
func TestRunAgain(t *testing.T) {
	dir := os.Getenv(againDir)
	if dir == "" {
		t.Skip("TestRun runs this in a process of its own")
	}
	cfg := Config{DataDir: dir, Listen: freeAddress(t), PodCIDR: "198.18.0.0/16", ServiceCIDR: "198.19.0.0/16", HostPathPolicy: HostPathsOff, Addons: addons.Chosen(nil), PodSecurity: PodsRestricted}
	issuer, files := startIssuer(t), t.TempDir()
	cfg.AuthenticationFile = testFile(t, files, "authentication.yaml", issuer.config(), 0o644)
	testFile(t, files, "limits.yaml", eventLimits, 0o644)
	cfg.AdmissionFile = testFile(t, files, "admission.yaml", admissionHead+"plugins: [{name: EventRateLimit, path: limits.yaml}]", 0o644)
	r := startServer(t, cfg)
	_, secretErr := r.admin.CoreV1().Secrets("default").Get(t.Context(), "theirs", metav1.GetOptions{})
	_, nodeErr := r.admin.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if err := errors.Join(secretErr, nodeErr); err != nil {
		t.Error("what was written before the restart is lost: ", err)
	}
	checkKept(t, r)
	checkPolicyAgain(t, r.admin)
	checkHostPathPolicy(t, r.admin, 0)
	checkDNSAgain(t, r.admin)
	checkAddonsMended(t, r)
	checkPodSecurityRestricted(t, r.admin)
	checkEventLimit(t, r.admin)
	checkSimulator(t, r.admin, false)
	checkOIDC(t, issuer, r.adminConfig)
	checkOneDefaultClass(t, r)
	r.end(t)
}
