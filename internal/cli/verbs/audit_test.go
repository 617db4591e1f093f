package verbs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"everynode/internal/cli/console"
)

// auditedCluster answers like an API server with these objects, by request path. Other requests are forbidden; an
// object "404" does not exist.
type auditedCluster struct {
	objects map[string]string // YAML
	mu      sync.Mutex
	asked   []string
}

func (c *auditedCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	asked := r.Method + " " + r.URL.Path
	if page := r.URL.Query().Get("continue"); page != "" {
		asked += "?continue=" + page
	}
	c.asked = append(c.asked, asked)
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	object, ok := c.objects[strings.TrimPrefix(asked, "GET ")]
	switch {
	case object == "404":
		w.WriteHeader(http.StatusNotFound)
		object = "{apiVersion: v1, kind: Status, status: Failure, reason: NotFound, code: 404, message: not found}"
	case !ok:
		w.WriteHeader(http.StatusForbidden)
		object = fmt.Sprintf("{apiVersion: v1, kind: Status, status: Failure, reason: Forbidden, code: 403, message: %q}", asked+" is forbidden")
	}
	data, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		panic(err) // the text is the test's own
	}
	w.Write(data)
}

// run runs the command line against the cluster.
func (c *auditedCluster) run(t *testing.T, command []string, args ...string) (code int, out, errs string) {
	t.Helper()
	server := httptest.NewServer(c)
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}]}", server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code = run(slices.Concat([]string{"everynode"}, command, []string{"--kubeconfig", kubeconfig}, args), os.Stdin, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func (c *auditedCluster) audit(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	return c.run(t, []string{"audit"}, args...)
}

const auditedSet = `
kind: DaemonSetList
apiVersion: apps/v1
items:
- metadata: {name: agent, namespace: kube-system, uid: u1, generation: 2, managedFields: [{manager: kubectl, operation: Update, time: "2026-01-01T00:00:00Z"}]}
  spec:
    selector: {matchLabels: {app: agent}}
    minReadySeconds: 10
    template:
      metadata: {labels: {app: agent}}
      spec:
        priorityClassName: system-node-critical
        containers:
        - name: main
          image: agent:1
          readinessProbe: {exec: {command: [check]}}
          envFrom: [{configMapRef: {name: open}}, {configMapRef: {name: gone}}, {secretRef: {name: key}}]
  status: {observedGeneration: 2, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 1}
`

func auditedPod(hash string) string {
	return fmt.Sprintf(`{metadata: {namespace: kube-system, labels: {controller-revision-hash: %s}, creationTimestamp: "2026-01-01T00:00:00Z", ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: agent, uid: u1, controller: true}]}}`, hash)
}

// otherPod is new, and says from another namespace that the DaemonSet controls it.
func otherPod() string {
	return strings.NewReplacer("kube-system", "tenant", "2026-01-01", "2999-01-01").Replace(auditedPod("a"))
}

func podPageOf(pod, next string) string {
	return fmt.Sprintf("{kind: PartialObjectMetadataList, apiVersion: meta.k8s.io/v1, metadata: {continue: %q}, items: [%s]}", next, pod)
}

func newAuditedCluster() *auditedCluster {
	return &auditedCluster{objects: map[string]string{
		"/apis/apps/v1/daemonsets":                       auditedSet,
		"/api/v1/nodes":                                  "{kind: NodeList, apiVersion: v1, items: [{metadata: {name: n1}}, {metadata: {name: n2}}, {metadata: {name: n3}}]}",
		"/api/v1/pods":                                   podPageOf(auditedPod("a"), "2"),
		"/api/v1/pods?continue=2":                        podPageOf(auditedPod("b")+", "+auditedPod("c")+", "+otherPod(), ""),
		"/api/v1/namespaces/kube-system/configmaps/open": "{kind: ConfigMap, apiVersion: v1, metadata: {name: open}}",
		"/api/v1/namespaces/kube-system/configmaps/gone": "404",
		"/apis/everynode.io/v1alpha1/rolloutpolicies":    "404",
		"/api/v1/namespaces/kube-system/secrets/key":     "{kind: Secret, apiVersion: v1, metadata: {name: key}, data: {k: c2VjcmV0}}",
	}}
}

// It reads from a cluster what it judges, and changes nothing; it does not read Secrets.
func TestAuditAsksACluster(t *testing.T) {
	c := newAuditedCluster()
	code, out, errs := c.audit(t, "-o", "json")
	var report struct {
		Nodes    int
		NotRead  []string
		Findings []struct{ Reason, Severity string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != console.ExitOK || errs != "" {
		t.Fatalf("%d, %v, %s\n%s", code, err, errs, out)
	}
	var reasons []string
	for _, x := range report.Findings {
		reasons = append(reasons, x.Severity+" "+x.Reason)
	}
	if want := []string{"medium UpdateStuck", "medium MixedRevisions", "low MutableConfig"}; !slices.Equal(reasons, want) || report.Nodes != 3 {
		t.Errorf("%q on %d nodes, want %q", reasons, report.Nodes, want)
	}
	if len(report.NotRead) != 1 || !strings.Contains(report.NotRead[0], "--read-secrets was not given") {
		t.Errorf("not read: %q", report.NotRead)
	}
	for _, asked := range c.asked {
		if !strings.HasPrefix(asked, "GET ") || strings.Contains(asked, "secrets") {
			t.Errorf("it asked %s", asked)
		}
	}
}

// A cluster's policies determine what its guards hold; a cluster without that kind does not get a complaint.
func TestAuditReadsPolicies(t *testing.T) {
	c := newAuditedCluster()
	if _, out, _ := c.audit(t, "-o", "json"); strings.Contains(out, "guarded") || strings.Contains(out, "Unguarded") {
		t.Errorf("without the kind:\n%s", out)
	}
	const list = "{kind: RolloutPolicyList, apiVersion: everynode.io/v1alpha1, metadata: {}, items: [%s]}"
	c.objects["/apis/everynode.io/v1alpha1/rolloutpolicies"] = fmt.Sprintf(list, "")
	if _, out, _ := c.audit(t, "-o", "json"); !strings.Contains(out, `"guarded": []`) || !strings.Contains(out, `"Unguarded"`) {
		t.Errorf("without a policy:\n%s", out)
	}
	c.objects["/apis/everynode.io/v1alpha1/rolloutpolicies"] = fmt.Sprintf(list, "{apiVersion: everynode.io/v1alpha1, kind: RolloutPolicy, metadata: {name: p}, spec: {daemonSets: {namespaces: [kube-system]}}}")
	if _, out, _ := c.audit(t, "-o", "json"); !strings.Contains(out, `"removals": "10%"`) || strings.Contains(out, `"Unguarded"`) {
		t.Errorf("with a policy:\n%s", out)
	}
	if _, out, _ := c.audit(t); !strings.Contains(out, "\na RolloutPolicy's guard holds the pods of 1 when labels or the placement change\n") {
		t.Error(out)
	}
}

func TestAuditReadsSecretsIfTold(t *testing.T) {
	_, out, _ := newAuditedCluster().audit(t, "--read-secrets", "-o", "json")
	if !strings.Contains(out, `"MutableSecret"`) || strings.Contains(out, "notRead") || strings.Contains(out, "c2VjcmV0") {
		t.Error(out)
	}
}

// It names what it may not read, and judges the rest.
func TestAuditGoesOnWithoutRights(t *testing.T) {
	c := newAuditedCluster()
	for path := range c.objects {
		if path != "/apis/apps/v1/daemonsets" {
			delete(c.objects, path)
		}
	}
	code, out, errs := c.audit(t)
	text := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"1 DaemonSet: 1 medium; 0 without a finding not known: ", "nodes were not read, so ", "GET /api/v1/nodes is forbidden", "pods were not read, so ",
		"RolloutPolicies were not read, so nothing is said of what their guards hold: ", "some ConfigMaps were not read, so ", "medium 2 of 3 kube-system/agent UpdateStuck 2 nodes run an older revision",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != console.ExitOK || errs != "" {
		t.Errorf("%d, %s", code, errs)
	}
	delete(c.objects, "/apis/apps/v1/daemonsets")
	code, out, errs = c.audit(t)
	if code != exitAuditFailed || out != "" || !strings.Contains(errs, "list the DaemonSets: GET /apis/apps/v1/daemonsets is forbidden; --namespace needs the right in one namespace only") {
		t.Errorf("%d, %s, %s", code, out, errs)
	}
}

// The right to read one namespace is enough.
func TestAuditOfANamespace(t *testing.T) {
	c := newAuditedCluster()
	c.objects["/apis/apps/v1/namespaces/kube-system/daemonsets"] = auditedSet
	c.objects["/api/v1/namespaces/kube-system/pods"] = podPageOf("", "")
	if code, out, errs := c.audit(t, "-n", "kube-system", "agent", "--fail-on", "low"); code != exitFindings || errs != "" || strings.Contains(out, "pods were not read") {
		t.Errorf("%d, %s, %s", code, out, errs)
	}
	if slices.ContainsFunc(c.asked, func(asked string) bool { return asked == "GET /apis/apps/v1/daemonsets" }) {
		t.Errorf("it asked %q", c.asked)
	}
}

func TestAuditCompletesNames(t *testing.T) {
	if _, out, errs := newAuditedCluster().run(t, []string{"__complete", "audit"}, ""); !strings.HasPrefix(out, "kube-system/agent\n") {
		t.Errorf("%s%s", out, errs)
	}
}

// Contradictory flags and unknown words end with an exit code that no finding has, and a text that says what to do.
func TestAuditRefuses(t *testing.T) {
	none := t.TempDir()
	for args, want := range map[string]string{
		"a/b/c":                   `"a/b/c" does not name a DaemonSet: give NAME, ds/NAME or NAMESPACE/NAME`,
		"/a":                      `"/a" does not name a DaemonSet: give NAME, ds/NAME or NAMESPACE/NAME`,
		"-n x y/z":                "y/z: it is in another namespace than --namespace x: give ds/NAME, or",
		"-n x -A":                 "--all-namespaces and --namespace exclude each other",
		"-f a --kubeconfig b":     "--filename and --kubeconfig exclude each other: manifests are judged without a cluster",
		"-f a --read-secrets":     "--filename and --read-secrets exclude each other: manifests are judged without a cluster",
		"--fail-on higher":        "--fail-on higher: known are none, low, medium, high; did you mean high?",
		"--severity none":         "--severity none: known are low, medium, high",
		"--reason HangOnLabel":    "--reason HangOnLabel: there is no such reason; did you mean HangsOnLabel?",
		"-f " + none + "/none":    "open " + none + "/none: no such file or directory",
		"-f " + none:              "read " + none + ": is a directory",
		"--kubeconfig " + none:    none + " is not a kubeconfig: ",
		"-f -":                    "there is no DaemonSet to judge: the files have 0 objects of other kinds",
		"--kubeconfig /dev/null ": "/dev/null is not a kubeconfig: ",
	} {
		var out, errs bytes.Buffer
		code := run(append([]string{"everynode", "audit"}, strings.Fields(args)...), strings.NewReader(""), &out, &errs)
		if code != exitAuditFailed || out.Len() > 0 || !strings.HasPrefix(errs.String(), "error: "+want) {
			t.Errorf("%s: %d, %s%s\nwant %s", args, code, &out, &errs, want)
		}
	}
}
