package controlplane

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// attempt is what somebody tries without the right to do it. Each is refused. Where
// it can be tried, an administrator succeeds: otherwise the attempt would prove
// nothing. docs/security.md lists them.
type attempt struct {
	who, what    string
	verb, target string
	body         string
	// only: an administrator's success cannot be tried without an effect.
	only bool
}

const (
	coreAPI = "/api/v1"
	certAPI = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	rbacAPI = "/apis/rbac.authorization.k8s.io/v1"
	admits  = "/apis/admissionregistration.k8s.io/v1"
	merge   = "PATCH"
)

// attempts returns the attempts in the order of docs/security.md. default/theirs is a
// pod of node-2 with a secret of that name. The tenant has the role edit in its
// namespace, tenant.
func attempts() []attempt {
	return []attempt{
		{"a join token", "reads the secrets of the system", "GET", coreAPI + "/namespaces/kube-system/secrets", "", false},
		{"a join token", "lists the nodes", "GET", coreAPI + "/nodes", "", false},
		{"a join token", "reads the settings of the system", "GET", coreAPI + "/namespaces/kube-system/configmaps", "", false},
		{"a join token", "makes a Node", "POST", coreAPI + "/nodes", `{"metadata":{"name":"mine"}}`, false},
		{"a join token", "makes a pod", "POST", coreAPI + "/namespaces/default/pods", podOf("mine", "", ""), false},
		{"a join token", "approves its own request", merge, certAPI + "/attempted/approval", approvalBody, false},
		{"a join token", "makes a join token", "POST", coreAPI + "/namespaces/kube-system/secrets", `{"metadata":{"name":"bootstrap-token-abcdef"},"type":"bootstrap.kubernetes.io/token"}`, true},

		{"a node", "reads a secret that none of its pods has", "GET", coreAPI + "/namespaces/default/secrets/theirs", "", false},
		{"a node", "lists all secrets", "GET", coreAPI + "/secrets", "", false},
		{"a node", "reads a ConfigMap that none of its pods has", "GET", coreAPI + "/namespaces/tenant/configmaps/kube-root-ca.crt", "", false},
		{"a node", "changes another Node", merge, coreAPI + "/nodes/node-2", `{"metadata":{"annotations":{"a":"b"}}}`, false},
		{"a node", "changes the status of another Node", merge, coreAPI + "/nodes/node-2/status", `{"status":{"phase":"Running"}}`, false},
		{"a node", "deletes another Node", "DELETE", coreAPI + "/nodes/node-2", "", false},
		{"a node", "makes itself one of the control plane", merge, coreAPI + "/nodes/node-1", `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`, false},
		{"a node", "takes the pods and volumes of another machine by its name in a label", merge, coreAPI + "/nodes/node-1", `{"metadata":{"labels":{"kubernetes.io/hostname":"node-2"}}}`, false},
		{"a node", "does so by its status", merge, coreAPI + "/nodes/node-1/status", `{"metadata":{"labels":{"kubernetes.io/hostname":"node-2"}}}`, false},
		{"a node", "does so by the label of a storage plugin", merge, coreAPI + "/nodes/node-1", `{"metadata":{"labels":{"disk.csi.everynode.io/node":"node-2"}}}`, false},
		{"a node", "takes its own taints away", merge, coreAPI + "/nodes/node-1", `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`, false},
		{"a node", "makes a pod for another node", "POST", coreAPI + "/namespaces/default/pods", podOf("mirror", "node-2", "static"), false},
		{"a node", "makes an ordinary pod for itself", "POST", coreAPI + "/namespaces/default/pods", podOf("mine", "node-1", ""), false},
		{"a node", "makes a mirror pod that is the cluster's DNS", "POST", coreAPI + "/namespaces/kube-system/pods", mirrorBody, false},
		{"a node", "deletes a pod of another node", "DELETE", coreAPI + "/namespaces/default/pods/theirs", "", false},
		{"a node", "evicts a pod of another node", "POST", coreAPI + "/namespaces/default/pods/theirs/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"theirs"}}`, false},
		{"a node", "says that a pod of another node is ready", merge, coreAPI + "/namespaces/default/pods/theirs/status", `{"status":{"message":"fine"}}`, false},
		{"a node", "gets a token of an account that none of its pods has", "POST", coreAPI + "/namespaces/tenant/serviceaccounts/default/token", tokenBody, false},
		{"a node", "keeps another node alive", merge, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-2", `{"spec":{"holderIdentity":"node-1"}}`, false},
		{"a node", "takes the lead", "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", `{"metadata":{"name":"everynode-controller"},"spec":{"holderIdentity":"node-1"}}`, true},
		{"a node", "approves a request", merge, certAPI + "/attempted/approval", approvalBody, false},
		{"a node", "takes a policy away that holds nodes", "DELETE", admits + "/validatingadmissionpolicies/everynode-node-addresses", "", false},
		{"a node", "gives itself a role", "POST", rbacAPI + "/clusterrolebindings", bindingBody("ClusterRoleBinding", "system:node:node-1"), false},
		{"a node", "takes a node off the list of revoked ones", merge, coreAPI + "/namespaces/kube-system/configmaps/everynode-revoked-nodes", `{"data":{"a":"b"}}`, false},
		{"a node", "makes a DaemonSet", "POST", "/apis/apps/v1/namespaces/default/daemonsets", daemonSetBody, false},
		{"a node", "runs a program in a pod of another node", "POST", coreAPI + "/namespaces/default/pods/theirs/exec?command=sh&container=c", "", true},
		{"a node", "asks the kubelet of another node", "GET", coreAPI + "/nodes/node-2/proxy/pods", "", true},
		{"a node", "speaks for another node", "GET as system:node:node-2", coreAPI + "/nodes", "", true},

		{"a tenant", "changes a Node", merge, coreAPI + "/nodes/node-1", `{"metadata":{"annotations":{"a":"b"}}}`, false},
		{"a tenant", "binds a pod to a node past the scheduler", "POST", coreAPI + "/namespaces/tenant/pods/theirs/binding", `{"metadata":{"name":"theirs"},"target":{"kind":"Node","name":"node-1"}}`, true},
		{"a tenant", "reads a secret of another namespace", "GET", coreAPI + "/namespaces/default/secrets/theirs", "", false},
		{"a tenant", "makes a pod of the system", "POST", coreAPI + "/namespaces/kube-system/pods", podOf("mine", "", ""), false},
		{"a tenant", "gets a token of an account of the system", "POST", coreAPI + "/namespaces/kube-system/serviceaccounts/default/token", tokenBody, false},
		{"a tenant", "gives itself a role in the cluster", "POST", rbacAPI + "/clusterrolebindings", bindingBody("ClusterRoleBinding", "tenant"), false},
		{"a tenant", "gives itself a role in its namespace", "POST", rbacAPI + "/namespaces/tenant/rolebindings", bindingBody("RoleBinding", "tenant"), false},
		{"a tenant", "speaks for an account of the system", "GET as system:serviceaccount:kube-system:default", coreAPI + "/namespaces/tenant/pods", "", true},
		{"a tenant", "writes the history of a DaemonSet", "POST", "/apis/apps/v1/namespaces/tenant/controllerrevisions", `{"metadata":{"name":"mine"},"revision":1,"data":{}}`, false},
		{"a tenant", "writes a pod's status", merge, coreAPI + "/namespaces/tenant/pods/theirs/status", `{"status":{"message":"fine"}}`, true},
		{"a tenant", "makes a priority for itself", "POST", "/apis/scheduling.k8s.io/v1/priorityclasses", `{"metadata":{"name":"mine"},"value":1000}`, false},
		{"a tenant", "makes a webhook", "POST", admits + "/validatingwebhookconfigurations", `{"metadata":{"name":"mine"}}`, false},
		{"a tenant", "approves a request", merge, certAPI + "/attempted/approval", approvalBody, false},
		{"a tenant", "has its Service catch what is sent to the API server", "POST", coreAPI + "/namespaces/tenant/services", externalIPBody, true},
		{"a tenant", "runs a program in another namespace", "POST", coreAPI + "/namespaces/default/pods/theirs/exec?command=sh&container=c", "", true},
		{"a tenant", "asks a kubelet", "GET", coreAPI + "/nodes/node-2/proxy/pods", "", true},
		{"a tenant", "reads who is revoked", "GET", coreAPI + "/namespaces/kube-system/configmaps", "", false},
		{"a tenant", "lifts what holds its namespace to a standard", merge, coreAPI + "/namespaces/tenant", `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`, false},
	}
}

// mirrorBody is a pod that the API server accepts from node-1's kubelet. The UID of node-1
// replaces $(uid). The status that a kubelet reports is its own affair.
const mirrorBody = `{"metadata":{"name":"coredns-node-1","labels":{"k8s-app":"kube-dns"},
	"annotations":{"kubernetes.io/config.mirror":"mine"},
	"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-1","uid":"$(uid)","controller":true}]},
	"spec":{"nodeName":"node-1","containers":[{"name":"c","image":"none"}]}}`

const externalIPBody = `{"metadata":{"name":"mine"},"spec":{"selector":{"app":"mine"},"ports":[{"port":6443}],"externalIPs":["192.0.2.10"]}}`

const (
	tokenBody     = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`
	approvalBody  = `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"mine"}]}}`
	daemonSetBody = `{"metadata":{"name":"mine"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"none"}]}}}}`
)

func podOf(name, node, mirror string) string {
	annotations := ""
	if mirror != "" {
		annotations = fmt.Sprintf(`,"annotations":{%q:%q}`, corev1.MirrorPodAnnotationKey, mirror)
	}
	return fmt.Sprintf(`{"metadata":{"name":%q%s},"spec":{"nodeName":%q,"containers":[{"name":"c","image":"none"}]}}`, name, annotations, node)
}

func bindingBody(kind, user string) string {
	return fmt.Sprintf(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":%q,"metadata":{"name":"mine"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},`+
		`"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":%q}]}`, kind, user)
}

// checkAttempts makes each attempt, as its subject and as an administrator.
func checkAttempts(t *testing.T, r *running, base, bootstrap, node *rest.Config) {
	tenant := rest.CopyConfig(base)
	tenant.BearerToken = makeTenant(t, r.admin)
	prepareAttempts(t, r.admin)
	admin, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.cfg.DataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	node1, err := r.admin.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	as := map[string]*rest.Config{"a join token": bootstrap, "a node": node, "a tenant": tenant}
	for _, a := range attempts() {
		a.body = strings.ReplaceAll(a.body, "$(uid)", string(node1.UID))
		t.Run(a.who+" "+a.what, func(t *testing.T) {
			if err := a.try(t.Context(), as[a.who]); !apierrors.IsForbidden(err) {
				t.Errorf("%s %s: %v, want a refusal", a.verb, a.target, err)
			}
			if a.only {
				return
			}
			if err := a.try(t.Context(), admin); err != nil {
				t.Errorf("an administrator: %v", err)
			}
		})
	}
}

// try makes the attempt, without an effect. In the audit log, its user agent identifies it.
func (a attempt) try(ctx context.Context, config *rest.Config) error {
	verb, whom, _ := strings.Cut(a.verb, " as ")
	config = rest.CopyConfig(config)
	config.UserAgent = a.who + " " + a.what
	config.Impersonate.UserName = whom
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	req := client.CoreV1().RESTClient().Verb(verb).RequestURI(a.target)
	if verb != http.MethodGet {
		req = req.Param("dryRun", metav1.DryRunAll)
	}
	switch {
	case verb == merge:
		req = req.SetHeader("Content-Type", "application/merge-patch+json").Body([]byte(a.body))
	case a.body != "":
		req = req.SetHeader("Content-Type", "application/json").Body([]byte(a.body))
	}
	return req.Do(ctx).Error()
}

// makeTenant makes a namespace and an account that may edit in it, and returns
// a token of that account.
func makeTenant(t *testing.T, admin kubernetes.Interface) (token string) {
	t.Helper()
	ctx, account := t.Context(), rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "tenant", Name: "tenant"}
	_, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}}, metav1.CreateOptions{})
	if err == nil {
		_, err = admin.CoreV1().ServiceAccounts("tenant").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = admin.RbacV1().RoleBindings("tenant").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}, Subjects: []rbacv1.Subject{account}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := admin.CoreV1().ServiceAccounts("tenant").CreateToken(ctx, "tenant", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Status.Token
}

// prepareAttempts makes what is attacked. The pod theirs and its secret exist before.
func prepareAttempts(t *testing.T, admin kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	for target, body := range map[string]string{
		coreAPI + "/nodes": `{"metadata":{"name":"node-2"}}`,
		"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases": `{"metadata":{"name":"node-2"},"spec":{"holderIdentity":"node-2"}}`,
	} {
		if err := admin.CoreV1().RESTClient().Post().RequestURI(target).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error(); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keyutil.ParsePrivateKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := certutil.MakeCSR(signer, &pkix.Name{CommonName: "attempted"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CertificatesV1().CertificateSigningRequests().Create(ctx, &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "attempted"},
		Spec: certv1.CertificateSigningRequestSpec{Request: request, SignerName: certv1.KubeAPIServerClientSignerName, Usages: []certv1.KeyUsage{certv1.UsageClientAuth}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespaces have their accounts and settings", func(ctx context.Context) (bool, error) {
		var errs []error
		for _, namespace := range []string{"tenant", "kube-system"} {
			_, err := admin.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
			_, err2 := admin.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
			errs = append(errs, err, err2)
		}
		return errors.Join(errs...) == nil, nil
	})
}

// TestAttemptsAreListed: docs/security.md lists all attempts.
func TestAttemptsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attempts() {
		if !bytes.Contains(text, []byte("| "+a.who+" | "+a.what+" |")) {
			t.Errorf("docs/security.md has no line\n| %s | %s |", a.who, a.what)
		}
	}
}
