package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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

	"everynode/internal/addons"
	"everynode/internal/controlplane/pki"
)

// dnsIndex is the position of the DNS's address in the service range, the same as kubeadm's.
const dnsIndex = 10

// DNSAddress returns the address of the cluster's DNS in a range of services. ok is
// whether the range contains it.
func DNSAddress(services netip.Prefix) (address netip.Addr, ok bool) {
	address = services.Masked().Addr()
	for range dnsIndex {
		address = address.Next()
	}
	return address, services.Contains(address)
}

// isDNS reports whether an add-on is the one that nodes ask for when they join.
func isDNS(a addons.Addon) bool { return a.Name == addons.DNS }

// checkDNS refuses a service range that has no address for the DNS, if the DNS is in the list.
func checkDNS(list []addons.Addon, services netip.Prefix) error {
	if _, ok := DNSAddress(services); !ok && slices.ContainsFunc(list, isDNS) {
		return fmt.Errorf("the service range %s is too small: the cluster's DNS needs its %dth address; give a larger --service-cidr, or --without %s", services, dnsIndex, addons.DNS)
	}
	return nil
}

// ownAddons are the add-ons that a server creates in its cluster.
type ownAddons struct {
	list    []addons.Addon
	cluster AddonCluster
	client  *rest.Config
}

// make creates the add-ons that are wanted. A cluster without them is more useful
// than none, so it only logs a failure.
func (o ownAddons) make(ctx context.Context, wanted func(addons.Addon) bool) {
	for _, a := range o.list {
		if !wanted(a) {
			continue
		}
		if _, err := MakeAddon(ctx, o.client, a, o.cluster); err != nil && ctx.Err() == nil {
			klog.Warningf("The cluster lacks the add-on %s, or a part of it: %v. `everynode up`, or the next start of this server, will try again", a.Name, err)
		}
	}
}

// run creates the add-ons that nothing waits for.
func (o ownAddons) run(ctx context.Context) error {
	o.make(ctx, func(a addons.Addon) bool { return !isDNS(a) && !a.OnHost })
	<-ctx.Done()
	return nil
}

// AddonCluster is what add-ons need to know about their cluster.
type AddonCluster struct {
	DataDir  string       // of the server
	Services netip.Prefix // range of service addresses
	Registry string       // host of the local registry; "" without one
}

// MakeAddon creates the objects of an add-on that are missing, and returns them as
// "KIND NAME". Existing objects stay as they are, with the exceptions that package
// addons lists.
func MakeAddon(ctx context.Context, cfg *rest.Config, a addons.Addon, of AddonCluster) (made []string, err error) {
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for the add-on %s: %w", a.Name, err)
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for the add-on %s: %w", a.Name, err)
	}
	values, err := addonValues(ctx, typed, a, of)
	if err != nil {
		return nil, err
	}
	objects, err := addonObjects(a, values)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := yieldDefault(ctx, typed, object); err != nil {
			return made, err
		}
		if applied(object) {
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
		if object.GetKind() == "Deployment" {
			if err := renewImage(ctx, typed, object.GetNamespace(), object.GetName(), a.Image()); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// addonValues returns what the manifest of an add-on needs to know about the cluster.
func addonValues(ctx context.Context, client kubernetes.Interface, a addons.Addon, of AddonCluster) (v addons.Values, err error) {
	v.Registry = of.Registry
	if isDNS(a) {
		address, ok := DNSAddress(of.Services)
		if !ok {
			return v, fmt.Errorf("the service range %s has no %dth address for the DNS", of.Services, dnsIndex)
		}
		v.DNSAddress = address.String()
	}
	if a.Serves == "" {
		return v, nil
	}
	authorities, err := os.ReadFile(filepath.Join(of.DataDir, "pki", pki.KubeletAuthorities))
	if err != nil {
		return v, fmt.Errorf("read the CA of the kubelets: %w", err)
	}
	v.KubeletAuthorities = string(authorities)
	v.Certificate, err = ensureServed(ctx, client, a, time.Now())
	return v, err
}

// addonObjects returns the objects of an add-on, with its label.
func addonObjects(a addons.Addon, v addons.Values) ([]*unstructured.Unstructured, error) {
	text, err := a.Manifest(v)
	if err != nil {
		return nil, err
	}
	objects, err := decodeManifest(text)
	if err != nil {
		return nil, fmt.Errorf("add-on %s: %w", a.Name, err)
	}
	for _, object := range objects {
		labels := object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[addons.NameKey] = a.Name
		object.SetLabels(labels)
	}
	return objects, nil
}

// applied reports whether the server applies an object at every start.
func applied(object *unstructured.Unstructured) bool {
	switch object.GroupVersionKind().Group {
	case "rbac.authorization.k8s.io", "apiregistration.k8s.io":
		return true
	}
	return object.GetAnnotations()[addons.AppliedKey] == "true"
}

// createObject creates an object unless it exists. Like applyObject it retries for a
// while, but not if the API server refuses the object as invalid.
func createObject(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) (created bool, err error) {
	kind, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	resource := client.Resource(kind).Namespace(object.GetNamespace())
	// Get comes before Create, and again after a refusal: if a service exists, the API
	// server may report only that its address is taken.
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

// renewImage gives a Deployment the image of this version, if it still has the image
// of another version.
func renewImage(ctx context.Context, client kubernetes.Interface, namespace, name, image string) error {
	deployments := client.AppsV1().Deployments(namespace)
	d, err := deployments.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("look at the Deployment %s: %w", name, err)
	}
	patch, err := imagePatch(d, image)
	if err != nil || patch == nil {
		return err
	}
	if _, err := deployments.Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("give the Deployment %s the image %s: %w", name, image, err)
	}
	return nil
}

// imagePatch returns a patch that changes the image of a Deployment, if a server has
// chosen its present image; nil: there is nothing to change.
func imagePatch(d *appsv1.Deployment, image string) ([]byte, error) {
	given, ok := d.Annotations[addons.ImageKey]
	if !ok {
		given = d.Annotations[addons.FormerImageKey]
	}
	if given == "" || given == image {
		return nil, nil
	}
	containers := d.Spec.Template.Spec.Containers
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Image == given })
	if i < 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{addons.ImageKey: image, addons.FormerImageKey: nil}},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []map[string]string{{"name": containers[i].Name, "image": image}},
		}}},
	})
}
