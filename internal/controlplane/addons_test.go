package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/addons"
)

func TestDNSAddress(t *testing.T) {
	for services, want := range map[string]string{
		"10.96.0.0/16": "10.96.0.10", "198.19.0.0/28": "198.19.0.10", "198.19.0.0/29": "", "10.96.0.250/30": "", "fd00::/108": "fd00::a",
	} {
		address, ok := DNSAddress(netip.MustParsePrefix(services))
		if ok != (want != "") || ok && address.String() != want {
			t.Errorf("in %s: %s, %v; want %q", services, address, ok, want)
		}
	}
	small := Config{DataDir: "/data", ServiceCIDR: "198.19.0.0/29", Addons: addons.All()}
	if _, err := small.resolve(); err == nil || !strings.Contains(err.Error(), "--without dns") {
		t.Errorf("a range that is too small: %v", err)
	}
	small.Addons = nil
	if _, err := small.resolve(); err != nil {
		t.Errorf("a small range without DNS: %v", err)
	}
}

// The image changes with the server's version, unless somebody has chosen another.
func TestImagePatch(t *testing.T) {
	const before, now = "registry.k8s.io/coredns/coredns:v1.0.0", "registry.k8s.io/coredns/coredns:v2.0.0"
	for name, tt := range map[string]struct {
		key, given, has string
		want            bool
	}{
		"of an older server": {addons.ImageKey, before, before, true}, "as it should be": {addons.ImageKey, now, now, false},
		"somebody's own": {addons.ImageKey, before, "example.com/dns:1", false}, "not of a server": {"other", before, before, false},
		"somebody's own, as new as ours":                    {addons.ImageKey, before, now, false},
		"of a server that had another name for it":          {addons.FormerImageKey, before, before, true},
		"somebody's own, of a server that had another name": {addons.FormerImageKey, before, "example.com/dns:1", false},
	} {
		d := &appsv1.Deployment{}
		d.Annotations = map[string]string{tt.key: tt.given}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "other", Image: "example.com/other:1"}, {Name: dnsName, Image: tt.has}}
		patch, err := imagePatch(d, now)
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
		if c := changed.Spec.Template.Spec.Containers; len(c) != 1 || c[0].Name != dnsName || c[0].Image != now || changed.Annotations[addons.ImageKey] != now {
			t.Errorf("%s: the patch is %s", name, patch)
		}
	}
}

// dnsName is the name of the Deployment, its container, and the ConfigMap.
const dnsName = "coredns"

const editedCorefile = ".:53 {\n    errors\n}\n"

// checkDNSObjects checks that the cluster's DNS exists when the control plane is
// ready. Then it deletes a part and changes others, for checkDNSAgain.
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
	if image := d.Spec.Template.Spec.Containers[0].Image; image != addons.All()[0].Image() || *d.Spec.Replicas != 2 {
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

// checkDNSAgain checks that a start creates again what is missing, and leaves
// existing objects alone.
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

// checkAddonsMended deletes parts of add-ons of a running control plane, and makes them again.
func checkAddonsMended(t *testing.T, r *running) {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.cfg.DataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		r.admin.AppsV1().Deployments("kube-system").Delete(t.Context(), dnsName, metav1.DeleteOptions{}),
		r.admin.StorageV1().StorageClasses().Delete(t.Context(), "local-path", metav1.DeleteOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Deployment coredns, StorageClass local-path", ""} {
		var made []string
		for _, a := range addons.All() {
			parts, err := MakeAddon(t.Context(), cfg, a, AddonCluster{DataDir: r.cfg.DataDir, Services: netip.MustParsePrefix("198.19.0.0/16"), Registry: "localhost:5000"})
			if err != nil {
				t.Error(err)
			}
			made = append(made, parts...)
		}
		if got := strings.Join(made, ", "); got != want {
			t.Errorf("it made %q; want %q", got, want)
		}
	}
}

// checkOneDefaultClass creates the class of the add-on storage in a cluster that already
// has a default one.
func checkOneDefaultClass(t *testing.T, r *running) {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.cfg.DataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	defaultKey := defaultKeys("StorageClass")[0]
	classes := r.admin.StorageV1().StorageClasses()
	theirs := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Annotations: map[string]string{defaultKey: "true"}}, Provisioner: "example.com/disk"}
	if _, err = classes.Create(t.Context(), theirs, metav1.CreateOptions{}); err == nil {
		err = classes.Delete(t.Context(), "local-path", metav1.DeleteOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	made := func() *storagev1.StorageClass {
		for _, a := range addons.Chosen(map[string]bool{addons.DNS: false}) {
			if _, err := MakeAddon(t.Context(), cfg, a, AddonCluster{}); err != nil {
				t.Fatal(err)
			}
		}
		class, err := classes.Get(t.Context(), "local-path", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return class
	}
	if made().Annotations[defaultKey] == "true" {
		t.Error("beside somebody's default class ours became a second one")
	}
	err = errors.Join(classes.Delete(t.Context(), "theirs", metav1.DeleteOptions{}), classes.Delete(t.Context(), "local-path", metav1.DeleteOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	if made().Annotations[defaultKey] != "true" {
		t.Error("ours is not the default where there is no other")
	}
}

// checkAddons waits for the add-ons that nothing waits for, and checks that the API server
// trusts metrics-server by the certificate in its Secret.
func checkAddons(t *testing.T, admin kubernetes.Interface) {
	for _, d := range [][2]string{{"local-path-storage", "local-path-provisioner"}, {"kube-system", "metrics-server"}} {
		eventually(t, "the Deployment "+d[1], func(ctx context.Context) (bool, error) {
			_, err := admin.AppsV1().Deployments(d[0]).Get(ctx, d[1], metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil, err
		})
	}
	secret, err := admin.CoreV1().Secrets("kube-system").Get(t.Context(), "metrics-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !servedGood(secret.Data, "metrics-server.kube-system.svc", time.Now()) {
		t.Error("the certificate of metrics-server does not do")
	}
	var service struct {
		Spec struct {
			CABundle              []byte `json:"caBundle"`
			InsecureSkipTLSVerify bool   `json:"insecureSkipTLSVerify"`
		} `json:"spec"`
	}
	text, err := admin.Discovery().RESTClient().Get().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io").DoRaw(t.Context())
	if err == nil {
		err = json.Unmarshal(text, &service)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(service.Spec.CABundle, secret.Data[corev1.TLSCertKey]) || service.Spec.InsecureSkipTLSVerify {
		t.Errorf("the API server knows metrics-server by %s, insecure %v", service.Spec.CABundle, service.Spec.InsecureSkipTLSVerify)
	}
	config, err := admin.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kubelet-authorities", metav1.GetOptions{})
	if err != nil || !strings.Contains(config.Data["ca.crt"], "BEGIN CERTIFICATE") {
		t.Errorf("kubelets are known by %v, %v", config.Data, err)
	}
	// Nobody runs metrics-server here. While an API does not answer, no namespace can be deleted.
	err = admin.Discovery().RESTClient().Delete().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io").Do(t.Context()).Error()
	if err != nil {
		t.Error(err)
	}
}
