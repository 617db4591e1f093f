package ingress

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	"k8s.io/klog/v2"
)

// ControllerName is the controller that an IngressClass has to name for its Ingresses to be served here.
const ControllerName = "everynode.io/ingress"

// controller keeps a proxy's table up to date.
type controller struct {
	Config
	proxy     *Proxy
	ready     *atomic.Bool
	factories []informers.SharedInformerFactory
	ingresses networkinginformers.IngressInformer
	classes   networkinginformers.IngressClassInformer
	services  coreinformers.ServiceInformer
	secrets   coreinformers.SecretInformer
	changed   chan struct{}
	told      map[string]string // the problems that were last reported for each Ingress, by uid
}

// update makes a table from the current objects. It writes addresses to the status of the Ingresses, and creates
// events about their problems.
func (c *controller) update(ctx context.Context) {
	mine, err := c.mine()
	if err != nil {
		klog.ErrorS(err, "Keeping the former Ingresses")
		return
	}
	table, problems := Build(Objects{
		Ingresses: mine,
		Service: func(namespace, name string) *corev1.Service {
			service, err := c.services.Lister().Services(namespace).Get(name)
			return foundOrNil(service, err)
		},
		Secret: func(namespace, name string) *corev1.Secret {
			secret, err := c.secrets.Lister().Secrets(namespace).Get(name)
			return foundOrNil(secret, err)
		},
	})
	c.proxy.Set(table)
	c.ready.Store(ctx.Err() == nil)
	c.tell(problems)
	for _, in := range mine {
		if err := c.publish(ctx, in); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not write the address of an Ingress; trying again", "ingress", klog.KObj(in))
		}
	}
}

// foundOrNil returns the object that a lister has returned, or nil: a lister fails only if the object does not
// exist.
func foundOrNil[T any](object *T, err error) *T {
	if err != nil {
		return nil
	}
	return object
}

// mine returns the Ingresses whose class names this controller.
func (c *controller) mine() ([]*networkingv1.Ingress, error) {
	all, err := c.ingresses.Lister().List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the Ingresses: %w", err)
	}
	var mine []*networkingv1.Ingress
	for _, in := range all {
		if in.Spec.IngressClassName == nil || in.DeletionTimestamp != nil {
			continue
		}
		class, err := c.classes.Lister().Get(*in.Spec.IngressClassName)
		if err == nil && class.Spec.Controller == ControllerName {
			mine = append(mine, in)
		}
	}
	return mine, nil
}

// tell creates an event for each Ingress whose problems have changed.
func (c *controller) tell(problems []Problem) {
	now, of := map[string]string{}, map[string]*networkingv1.Ingress{}
	for _, p := range problems {
		uid := string(p.Ingress.UID)
		of[uid] = p.Ingress
		now[uid] = strings.TrimPrefix(now[uid]+"; "+p.Message, "; ")
	}
	for uid, message := range now {
		if c.told[uid] != message {
			klog.InfoS("A part of an Ingress does not work", "ingress", klog.KObj(of[uid]), "problem", message)
			c.Events.Event(of[uid], corev1.EventTypeWarning, "NotRouted", message)
		}
	}
	c.told = now
}

// publish writes the addresses of the proxy's service into the status of an Ingress.
func (c *controller) publish(ctx context.Context, in *networkingv1.Ingress) error {
	service, err := c.services.Lister().Services(c.Namespace).Get(c.Service)
	if apierrors.IsNotFound(err) {
		return nil // the proxy is reached in another way
	}
	if err != nil {
		return fmt.Errorf("look for the service of the proxy: %w", err)
	}
	addresses := []networkingv1.IngressLoadBalancerIngress{}
	for _, a := range service.Status.LoadBalancer.Ingress {
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: a.IP, Hostname: a.Hostname})
	}
	if len(addresses) == 0 && len(in.Status.LoadBalancer.Ingress) == 0 || reflect.DeepEqual(addresses, in.Status.LoadBalancer.Ingress) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": addresses}}})
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	_, err = c.Client.NetworkingV1().Ingresses(in.Namespace).Patch(ctx, in.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
