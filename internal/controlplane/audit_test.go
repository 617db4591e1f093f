package controlplane

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"
)

func TestAuditPolicyFile(t *testing.T) {
	const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
	for name, c := range map[string]struct{ text, want string }{
		"a good one":        {head + "rules: [{level: None}]", ""},
		"an unknown field":  {head + "rules: [{level: None, user: [a]}]", `unknown field "rules[0].user"`},
		"an unknown level":  {head + "rules: [{level: All}]", "Unsupported value"},
		"two policies":      {head + "rules: [{level: None}]\n---\n" + head + "rules: [{level: None}]", "more than one document"},
		"no rules":          {head, "0 rules"},
		"a list of a kind":  {"apiVersion: audit.k8s.io/v1\nkind: EventList\nitems: []", "is not a policy"},
		"an older version":  {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", "is not a policy"},
		"something else":    {"rules: [{level: None}]", "is not a policy"},
		"nothing":           {"", "is not a policy"},
		"text that is none": {"{", "is not a policy"},
	} {
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Config{DataDir: t.TempDir(), Audit: true, AuditPolicyFile: file}.resolve()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"a missing file":     {Config{Audit: true, AuditPolicyFile: "/nowhere/policy.yaml"}, "/nowhere/policy.yaml"},
		"a file and no log":  {Config{AuditPolicyFile: "/nowhere/policy.yaml"}, "the audit log is off"},
		"the policy of ours": {Config{Audit: true}, ""},
	} {
		c.cfg.DataDir = t.TempDir()
		if _, err := c.cfg.resolve(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := auditpolicy.LoadPolicyFromBytes(defaultAuditPolicy); err != nil {
		t.Error(err)
	}
}

// checkAudit looks in the audit log for what the other checks have done, and for what must not be there.
func checkAudit(t *testing.T, r *running) {
	const value = "a-value-that-nobody-may-see"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "audited", Namespace: "default"}, StringData: map[string]string{"key": value}}
	if _, err := r.admin.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.cfg.DataDir, AuditDir, auditLog)
	var text string
	eventually(t, "the new secret is in the audit log", func(context.Context) (bool, error) {
		data, err := os.ReadFile(file)
		text = string(data)
		return strings.Contains(text, `"name":"audited"`), err
	})
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the audit log is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the audit log is %v, %v", info.Mode(), err)
	}
	for _, bad := range []string{value, "requestObject", "responseObject", `"resource":"events"`, "/readyz"} {
		if strings.Contains(text, bad) {
			t.Errorf("the audit log has %q", bad)
		}
	}
	var events []auditv1.Event
	refused := false
	for line := range strings.Lines(text) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, e)
		if e.ObjectRef != nil && e.ObjectRef.Resource == "leases" && e.ResponseStatus.Code < 400 {
			t.Errorf("the audit log has heartbeats: %s", line)
		}
		refused = refused || e.User.Username == "system:node:evil" && e.ObjectRef != nil && e.ObjectRef.Resource == "nodes" && e.ResponseStatus.Code == 403
	}
	if !refused {
		t.Error("what a node was refused is not in the audit log")
	}
	checkAttemptsAudited(t, events)
	t.Logf("%d kB", len(text)>>10)
}

// notNoted returns the attempts that the policy leaves out. It decides before there is an answer, and these attempts
// look like what nodes do all the time. It sees verb, resource and namespace, but not whose lease it is, which
// ConfigMaps a node needs, or that somebody acts for somebody else.
func notNoted() []string {
	return []string{
		"a node reads a ConfigMap that none of its pods has",
		"a node keeps another node alive",
		"a node speaks for another node",
	}
}

// checkAttemptsAudited looks for each attempt: who, what, and that it was refused.
func checkAttemptsAudited(t *testing.T, events []auditv1.Event) {
	users := map[string]string{"a join token": "system:bootstrap:", "a node": "system:node:node-1", "a tenant": "system:serviceaccount:tenant:tenant"}
	verbs := map[string][]string{"GET": {"get", "list"}, "POST": {"create"}, "PATCH": {"patch"}, "DELETE": {"delete"}}
	excepted := notNoted()
	for _, a := range attempts() {
		name := a.who + " " + a.what
		noted := slices.ContainsFunc(events, func(e auditv1.Event) bool {
			method, _, _ := strings.Cut(a.verb, " ")
			return e.UserAgent == name && strings.HasPrefix(e.User.Username, users[a.who]) && slices.Contains(verbs[method], e.Verb) &&
				strings.HasPrefix(e.RequestURI, a.target) && e.ResponseStatus.Code == http.StatusForbidden
		})
		left := slices.Contains(excepted, name)
		if noted == left {
			t.Errorf("%s: in the audit log is %t", name, noted)
		}
		if left {
			excepted = slices.DeleteFunc(excepted, func(s string) bool { return s == name })
		}
	}
	if len(excepted) > 0 {
		t.Errorf("no attempts are %q", excepted)
	}
}
