package controlplane

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

const (
	// dnsImage is the CoreDNS that coredns/go.mod names, under the name that it has
	// in Kubernetes' registry: a node that lacks our archive can pull that one.
	dnsImage = "registry.k8s.io/coredns/coredns:v1.15.0"
	// dnsName is the name of the Deployment, its container, and the ConfigMap.
	dnsName = "coredns"
	// dnsImageKey annotates the Deployment with the image that a server gave it. One
	// that has another image got that from somebody else.
	dnsImageKey = "everynode.dev/image"
	// dnsIndex counts the DNS's address in the service range, as kubeadm does.
	dnsIndex = 10
)

//go:embed dns.yaml
var dnsManifest string

// DNSAddress is the address of the cluster's DNS in a range of services. ok says
// whether the range holds it.
func DNSAddress(services netip.Prefix) (address netip.Addr, ok bool) {
	address = services.Masked().Addr()
	for range dnsIndex {
		address = address.Next()
	}
	return address, services.Contains(address)
}

// checkDNS says whether there is an address for the DNS.
func (s *settings) checkDNS() error {
	if _, ok := DNSAddress(s.serviceRange); !ok && !s.NoDNS {
		return fmt.Errorf("the service range %s is too small: the cluster's DNS has its %dth address; give a larger --service-cidr, or --dns=false", s.serviceRange, dnsIndex)
	}
	return nil
}

// startDNS makes the cluster's DNS. A cluster in which no name resolves is of more
// use than none, so a failure is only told.
func (s *settings) startDNS(ctx context.Context, cfg *rest.Config) {
	if s.NoDNS {
		return
	}
	if _, err := MakeDNS(ctx, cfg, s.serviceRange); err != nil && ctx.Err() == nil {
		klog.Warningf("The cluster has no DNS, or not all of it: %v. `everynode up`, or the next start of this server, tries it again", err)
	}
}

// MakeDNS makes what is missing of the DNS of a cluster with this range of
// services, and returns what that was. What is there stays as it is, but for the
// rights of CoreDNS and an image that a server has chosen.
func MakeDNS(ctx context.Context, cfg *rest.Config, services netip.Prefix) (made []string, err error) {
	objects, err := dnsObjects(services)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for the cluster's DNS: %w", err)
	}
	for _, object := range objects {
		if object.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			err = applyObject(ctx, client, object)
		} else {
			var created bool
			if created, err = createObject(ctx, client, object); created {
				made = append(made, object.GetKind()+" "+object.GetName())
			}
		}
		if err != nil {
			return made, err
		}
	}
	return made, renewDNS(ctx, cfg)
}

// dnsObjects fills in the manifest.
func dnsObjects(services netip.Prefix) ([]*unstructured.Unstructured, error) {
	address, ok := DNSAddress(services)
	if !ok {
		return nil, fmt.Errorf("the service range %s has no %dth address for the DNS", services, dnsIndex)
	}
	t, err := template.New("dns.yaml").Parse(dnsManifest)
	if err != nil {
		return nil, fmt.Errorf("parse the objects of the cluster's DNS: %w", err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, struct{ Address, Image string }{address.String(), dnsImage}); err != nil {
		return nil, fmt.Errorf("fill in the objects of the cluster's DNS: %w", err)
	}
	return decodeManifest(text.Bytes())
}

// createObject makes an object unless it is there. It tries again for a while, as
// applyObject does, but not what is refused for what it says.
func createObject(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) (created bool, err error) {
	kind, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	resource := client.Resource(kind).Namespace(object.GetNamespace())
	// It is looked for first, and again when it is refused: of a service that is there
	// the API server does not say so, but that its address is taken.
	var refused, last error
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, bootstrapTime, true, func(ctx context.Context) (bool, error) {
		if _, last = resource.Get(ctx, object.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(last) {
			return last == nil, nil
		}
		if refused != nil {
			return false, refused
		}
		if _, last = resource.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager}); apierrors.IsInvalid(last) {
			refused = last
		}
		created = last == nil
		return created, nil
	})
	if err != nil {
		if refused == nil {
			err = errors.Join(err, last)
		}
		return false, fmt.Errorf("make %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return created, nil
}

// renewDNS gives the Deployment the image of this version, if it has the one of
// another version still.
func renewDNS(ctx context.Context, cfg *rest.Config) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client for the cluster's DNS: %w", err)
	}
	deployments := client.AppsV1().Deployments(metav1.NamespaceSystem)
	d, err := deployments.Get(ctx, dnsName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("look at the cluster's DNS: %w", err)
	}
	patch, err := dnsPatch(d, dnsImage)
	if err != nil || patch == nil {
		return err
	}
	if _, err := deployments.Patch(ctx, dnsName, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("give the cluster's DNS the image %s: %w", dnsImage, err)
	}
	return nil
}

// dnsPatch changes the image of the DNS, if a server has chosen the one that it
// has; nil changes nothing.
func dnsPatch(d *appsv1.Deployment, image string) ([]byte, error) {
	given := d.Annotations[dnsImageKey]
	if given == "" || given == image {
		return nil, nil
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name != dnsName || c.Image != given {
			continue
		}
		return json.Marshal(map[string]any{
			"metadata": map[string]any{"annotations": map[string]string{dnsImageKey: image}},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"containers": []map[string]string{{"name": dnsName, "image": image}},
			}}},
		})
	}
	return nil, nil
}
