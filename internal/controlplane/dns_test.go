package controlplane

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The image that the cluster is told to run is the one that is built.
func TestDNSImageIsTheOneThatIsBuilt(t *testing.T) {
	text, err := os.ReadFile("../../coredns/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)github\.com/coredns/coredns (v\S+)$`).FindSubmatch(text)
	if version == nil || !strings.HasSuffix(dnsImage, ":"+string(version[1])) {
		t.Errorf("the image is %s, and coredns/go.mod has %q", dnsImage, version)
	}
}

func TestDNSAddress(t *testing.T) {
	for services, want := range map[string]string{
		"10.96.0.0/16": "10.96.0.10", "198.19.0.0/28": "198.19.0.10", "198.19.0.0/29": "", "10.96.0.250/30": "", "fd00::/108": "fd00::a",
	} {
		address, ok := DNSAddress(netip.MustParsePrefix(services))
		if ok != (want != "") || ok && address.String() != want {
			t.Errorf("in %s: %s, %v; want %q", services, address, ok, want)
		}
	}
	small := Config{DataDir: "/data", ServiceCIDR: "198.19.0.0/29"}
	if _, err := small.resolve(); err == nil || !strings.Contains(err.Error(), "--dns=false") {
		t.Errorf("a range that is too small: %v", err)
	}
	small.NoDNS = true
	if _, err := small.resolve(); err != nil {
		t.Errorf("a small range without DNS: %v", err)
	}
}

// The image follows the server, unless somebody has chosen another.
func TestDNSPatch(t *testing.T) {
	const before, now = "registry.k8s.io/coredns/coredns:v1.0.0", "registry.k8s.io/coredns/coredns:v2.0.0"
	for name, tt := range map[string]struct {
		given, has string
		want       bool
	}{
		"of an older server": {before, before, true}, "as it should be": {now, now, false},
		"somebody's own": {before, "example.com/dns:1", false}, "not of a server": {"", before, false},
		"somebody's own, as new as ours": {before, now, false},
	} {
		d := &appsv1.Deployment{}
		if tt.given != "" {
			d.Annotations = map[string]string{dnsImageKey: tt.given}
		}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "other", Image: "example.com/other:1"}, {Name: dnsName, Image: tt.has}}
		patch, err := dnsPatch(d, now)
		if err != nil || (patch != nil) != tt.want {
			t.Errorf("%s: %s, %v", name, patch, err)
		}
		var changed appsv1.Deployment
		if patch == nil {
			continue
		}
		if err := json.Unmarshal(patch, &changed); err != nil {
			t.Fatal(err)
		}
		if c := changed.Spec.Template.Spec.Containers; len(c) != 1 || c[0].Name != dnsName || c[0].Image != now || changed.Annotations[dnsImageKey] != now {
			t.Errorf("%s: the patch is %s", name, patch)
		}
	}
}

const editedCorefile = ".:53 {\n    errors\n}\n"

// checkDNSObjects sees that the cluster's DNS is there when the control plane is
// ready. Then it takes a part away and changes others, for checkDNSAgain.
func checkDNSObjects(t *testing.T, admin kubernetes.Interface) {
	service, err := admin.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != "198.19.0.10" {
		t.Fatalf("the service has the address %s, %v", service.Spec.ClusterIP, err)
	}
	deployments := admin.AppsV1().Deployments("kube-system")
	d, err := deployments.Get(t.Context(), dnsName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; image != dnsImage || *d.Spec.Replicas != 2 {
		t.Errorf("the Deployment has the image %s, %d times", image, *d.Spec.Replicas)
	}
	d.Spec.Replicas = new(int32)
	if _, err := deployments.Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	configs := admin.CoreV1().ConfigMaps("kube-system")
	config, err := configs.Get(t.Context(), dnsName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(config.Data["Corefile"], "\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n") {
		t.Errorf("the Corefile is\n%s", config.Data["Corefile"])
	}
	config.Data["Corefile"] = editedCorefile
	if _, err := configs.Update(t.Context(), config, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if err := admin.CoreV1().Services("kube-system").Delete(t.Context(), "kube-dns", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// checkDNSAgain sees that a start makes again what is missing, and leaves alone
// what is there.
func checkDNSAgain(t *testing.T, admin kubernetes.Interface) {
	if _, err := admin.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	config, err := admin.CoreV1().ConfigMaps("kube-system").Get(t.Context(), dnsName, metav1.GetOptions{})
	if err != nil || config.Data["Corefile"] != editedCorefile {
		t.Errorf("the Corefile that somebody wrote is now %q, %v", config.Data["Corefile"], err)
	}
	d, err := admin.AppsV1().Deployments("kube-system").Get(t.Context(), dnsName, metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 0 {
		t.Errorf("the Deployment that somebody scaled to 0 is back: %v", err)
	}
}

// checkDNSMended deletes a part of the DNS of a running control plane.
func checkDNSMended(t *testing.T, r *running) {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.cfg.DataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.admin.AppsV1().Deployments("kube-system").Delete(t.Context(), dnsName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Deployment coredns", ""} {
		made, err := MakeDNS(t.Context(), cfg, netip.MustParsePrefix("198.19.0.0/16"))
		if got := strings.Join(made, ", "); err != nil || got != want {
			t.Errorf("it made %q, %v; want %q", got, err, want)
		}
	}
}
