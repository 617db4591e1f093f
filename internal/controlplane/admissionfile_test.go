package controlplane

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	corev1 "k8s.io/api/core/v1"
)

const (
	admissionHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	eventLimits   = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: [{type: Namespace, qps: 1, burst: 3}]\n"
	podDefaults   = "apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration"
)

// testFile writes a file into a folder of the test, and returns its path.
func testFile(t *testing.T, dir, name, text string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask does not matter
		t.Fatal(err)
	}
	return path
}

// A file that is wrong in any way is refused before the data directory is created.
func TestAdmissionFile(t *testing.T) {
	dir := t.TempDir()
	testFile(t, dir, "limits.yaml", eventLimits, 0o644)
	testFile(t, dir, "wrong.yaml", eventLimits+"extra: 1\n", 0o644)
	testFile(t, dir, "writable.yaml", eventLimits, 0o666)
	open := testFile(t, dir, "open.kubeconfig", "", 0o644)
	for name, c := range map[string]struct{ text, want string }{
		"none":                          {"plugins: []", ""},
		"a file beside it":              {"plugins: [{name: EventRateLimit, path: limits.yaml}]", ""},
		"a plugin without settings":     {"plugins: [{name: AlwaysPullImages}]", ""},
		"another standard for pods":     {"plugins: [{name: PodSecurity, configuration: {" + podDefaults + ", defaults: {enforce: restricted}}}]", ""},
		"an unknown field":              {"plugin: []", `unknown field "plugin"`},
		"two documents":                 {"plugins: []\n---\n" + admissionHead + "plugins: []", "more than one document"},
		"a field of a wrong type":       {"plugins: yes", "is not an AdmissionConfiguration"},
		"an unknown plugin":             {"plugins: [{name: PodSecurty}]", "plugins[0] (PodSecurty): there is no plugin with this name: give one of AlwaysAdmit, "},
		"a plugin without a name":       {"plugins: [{path: limits.yaml}]", "there is no plugin with this name"},
		"a plugin that is there twice":  {"plugins: [{name: PodNodeSelector}, {name: PodNodeSelector}]", "PodNodeSelector occurs twice"},
		"two configurations":            {"plugins: [{name: EventRateLimit, path: limits.yaml, configuration: {}}]", "both a path and a configuration"},
		"a missing file":                {"plugins: [{name: EventRateLimit, path: gone.yaml}]", "gone.yaml: no such file"},
		"a file with an unknown field":  {"plugins: [{name: EventRateLimit, path: wrong.yaml}]", `unknown field "extra"`},
		"a file that others may change": {"plugins: [{name: EventRateLimit, path: writable.yaml}]", "chmod go-w "},
		"no object":                     {"plugins: [{name: EventRateLimit, configuration: 7}]", "is not an object, but 7"},
		"an unknown field for pods":     {"plugins: [{name: PodSecurity, configuration: {" + podDefaults + ", default: {}}}]", `unknown field "default"`},
		"an unknown standard for pods":  {"plugins: [{name: PodSecurity, configuration: {" + podDefaults + ", defaults: {enforce: strict}}}]", "defaults.enforce"},
		"a secret that all may read":    {"plugins: [{name: ImagePolicyWebhook, configuration: {imagePolicy: {kubeConfigFile: " + open + "}}}]", "chmod 600 " + open},
		"a missing kubeconfig":          {"plugins: [{name: ValidatingAdmissionWebhook, configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: /nowhere/k}}]", "/nowhere/k"},
	} {
		file := testFile(t, dir, "admission.yaml", admissionHead+c.text, 0o644)
		wantResolved(t, name, Config{AdmissionFile: file}, c.want)
	}
	other := testFile(t, dir, "other.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n", 0o644)
	pods := testFile(t, dir, "pods.yaml", admissionHead+"plugins: [{name: PodSecurity}]", 0o644)
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"another kind":                   {Config{AdmissionFile: other}, "but a *v1.AuthenticationConfiguration"},
		"a missing file":                 {Config{AdmissionFile: "/nowhere/admission.yaml"}, "--admission-control-config-file: stat /nowhere/admission.yaml: no such file"},
		"a file that others may change":  {Config{AdmissionFile: testFile(t, dir, "w.yaml", admissionHead, 0o664)}, "chmod go-w "},
		"nothing in it":                  {Config{AdmissionFile: testFile(t, dir, "empty.yaml", "", 0o644)}, "is not an AdmissionConfiguration"},
		"no standard":                    {Config{PodSecurity: "strict"}, `"strict" is not a Pod Security Standard (--pod-security): give one of privileged, baseline, restricted`},
		"a standard, and one in a file":  {Config{PodSecurity: PodsBaseline, AdmissionFile: pods}, "leave out one of the two"},
		"a standard, and a file of none": {Config{PodSecurity: PodsRestricted, AdmissionFile: testFile(t, dir, "e.yaml", admissionHead, 0o644)}, ""},
	} {
		wantResolved(t, name, c.cfg, c.want)
	}
}

// wantResolved fails the test unless cfg is accepted (want is "") or refused with the text
// want, and nothing is written either way.
func wantResolved(t *testing.T, name string, cfg Config, want string) {
	t.Helper()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	_, err := cfg.resolve()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
	if exists(cfg.DataDir) {
		t.Errorf("%s: there is a data directory", name)
	}
}

// The standard for pods is added to what a file says about other plugins. If the file
// configures it, the file's configuration counts.
func TestAdmissionIsMerged(t *testing.T) {
	dir := t.TempDir()
	testFile(t, dir, "limits.yaml", eventLimits, 0o644)
	limits := testFile(t, dir, "a.yaml", admissionHead+"plugins: [{name: EventRateLimit, path: limits.yaml}]", 0o644)
	pods := testFile(t, dir, "b.yaml", admissionHead+"plugins: [{name: PodSecurity, configuration: {"+podDefaults+"}}]", 0o644)
	for name, c := range map[string]struct {
		cfg           Config
		has, lacks    string
		enabledPlugin string
	}{
		"by default":            {Config{}, "enforce: baseline", "EventRateLimit", "DenyServiceExternalIPs,NodeRestriction"},
		"a standard":            {Config{PodSecurity: PodsPrivileged}, "enforce: privileged", "baseline", "DenyServiceExternalIPs,NodeRestriction"},
		"a file of another":     {Config{AdmissionFile: limits}, "enforce: baseline", "path: limits", "DenyServiceExternalIPs,EventRateLimit,NodeRestriction"},
		"another's settings":    {Config{AdmissionFile: limits}, "burst: 3", "limits.yaml", "DenyServiceExternalIPs,EventRateLimit,NodeRestriction"},
		"a file says it itself": {Config{AdmissionFile: pods}, "PodSecurityConfiguration", "baseline", "DenyServiceExternalIPs,NodeRestriction,PodSecurity"},
		"external addresses":    {Config{AllowExternalIPs: true}, "enforce: baseline", "EventRateLimit", "NodeRestriction"},
	} {
		c.cfg.DataDir = t.TempDir()
		s, err := c.cfg.resolve()
		if err != nil {
			t.Fatal(name, ": ", err)
		}
		text := string(s.admission.text)
		if !strings.Contains(text, c.has) || strings.Contains(text, c.lacks) {
			t.Errorf("%s: want %q, and not %q:\n%s", name, c.has, c.lacks, text)
		}
		if flag := s.admission.flags(s.data(), s.AllowExternalIPs)[0]; flag != "--enable-admission-plugins="+c.enabledPlugin {
			t.Errorf("%s: %s", name, flag)
		}
	}
}

// checkEventLimit writes more events than a file allows, to check that the plugin, which
// is off by default, is on.
func checkEventLimit(t *testing.T, admin kubernetes.Interface) {
	for range 10 {
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{GenerateName: "many-"}, InvolvedObject: corev1.ObjectReference{Namespace: "kube-public"}}
		_, err := admin.CoreV1().Events("kube-public").Create(t.Context(), e, metav1.CreateOptions{})
		if apierrors.IsTooManyRequests(err) && strings.Contains(err.Error(), "limit reached") {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("ten events were let in, and the file allows three")
}
