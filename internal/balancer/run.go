package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

const (
	component = "everynode-load-balancer"
	// settle is how long changes gather before they are acted on.
	settle = 50 * time.Millisecond
	// again is how long to wait before retrying what failed.
	again = 2 * time.Second
)

// Routes leads the traffic of addresses to nodes.
type Routes interface {
	// Set makes the routes exactly these, node by address.
	Set(map[netip.Addr]netip.Addr) error
}

// balancer is the state of Run.
type balancer struct {
	client   kubernetes.Interface
	of       Range
	routes   Routes
	log      *slog.Logger
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	slices   discoverylisters.EndpointSliceLister
	events   record.EventRecorder
	changed  chan struct{}     // has room for one
	told     map[string]string // the problem that was reported last, by service
}

// Config configures Run.
type Config struct {
	// Range is where services get their addresses from.
	Range Range
	// Publications are ports of this machine that lead to services.
	Publications []Publication
	// Routes leads the traffic to nodes.
	Routes Routes
	Log    *slog.Logger
}

// Run gives addresses of a range to the services of a cluster until ctx ends. It returns an error
// only if it cannot begin, or a publication ends; other failures are logged and retried.
func Run(ctx context.Context, client kubernetes.Interface, c Config) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(needed))
	b := &balancer{
		client: client, of: c.Range, routes: c.Routes, log: c.Log,
		services: factory.Core().V1().Services().Lister(), nodes: factory.Core().V1().Nodes().Lister(),
		slices:  factory.Discovery().V1().EndpointSlices().Lister(),
		changed: make(chan struct{}, 1), told: map[string]string{},
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Services().Informer(), factory.Core().V1().Nodes().Informer(), factory.Discovery().V1().EndpointSlices().Informer(),
	} {
		if _, err := informer.AddEventHandler(b.onChange()); err != nil {
			return fmt.Errorf("watch what load balancers need: %w", err)
		}
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	b.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok && ctx.Err() == nil {
			return fmt.Errorf("watch what load balancers need: got no list of %v", kind)
		}
	}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { b.loop(ctx); return nil })
	for _, p := range c.Publications {
		parts.Go(func() error { return b.publish(ctx, p) })
	}
	return parts.Wait()
}

// needed keeps only what this package reads of an object: nodes are large.
func needed(object any) (any, error) {
	if n, ok := object.(*corev1.Node); ok {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, ResourceVersion: n.ResourceVersion},
			Status: corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: n.Status.Conditions}}, nil
	}
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// onChange requests another sync.
func (b *balancer) onChange() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { b.look() },
		UpdateFunc: func(old, now any) {
			if was, ok := old.(*corev1.Node); !ok || !sameNode(was, now.(*corev1.Node)) {
				b.look()
			}
		},
		DeleteFunc: func(any) { b.look() },
	}
}

// sameNode reports whether a change of a node, mostly a heartbeat, does not matter here.
func sameNode(a, b *corev1.Node) bool {
	one, first := takesTraffic(a)
	two, second := takesTraffic(b)
	return one == two && first == second
}

func (b *balancer) look() {
	select {
	case b.changed <- struct{}{}:
	default: // a sync is already requested
	}
}

func (b *balancer) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.changed:
		}
		pause := settle
		if err := b.sync(ctx); err != nil && ctx.Err() == nil {
			b.log.Error("not all services of type LoadBalancer are served; trying again", "err", err)
			b.look()
			pause = again
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// sync makes statuses and routes what they should be.
func (b *balancer) sync(ctx context.Context) error {
	objects, services, err := b.balanced()
	if err != nil {
		return err
	}
	nodes, err := b.serving()
	if err != nil {
		return err
	}
	routes, known := map[netip.Addr]netip.Addr{}, map[string]bool{}
	var failed error
	for _, a := range Assign(services, nodes, b.of) {
		known[a.Key] = true
		b.tell(objects[a.Key], a.Problem)
		if a.Via.IsValid() {
			routes[a.Address] = a.Via
		}
		if err := b.write(ctx, objects[a.Key], a.Address); err != nil {
			failed = err // the other services still get theirs
		}
	}
	for key := range b.told {
		if !known[key] {
			delete(b.told, key)
		}
	}
	if err := b.routes.Set(routes); err != nil {
		return fmt.Errorf("set the routes of load balancers: %w", err)
	}
	return failed
}

// balanced reads the services of type LoadBalancer that nobody else serves.
func (b *balancer) balanced() (map[string]*corev1.Service, []Service, error) {
	all, err := b.services.List(labels.Everything())
	if err != nil {
		return nil, nil, fmt.Errorf("list the services: %w", err)
	}
	objects, services := map[string]*corev1.Service{}, []Service{}
	for _, object := range all {
		if object.Spec.Type != corev1.ServiceTypeLoadBalancer || object.Spec.LoadBalancerClass != nil || object.DeletionTimestamp != nil {
			continue
		}
		s := Service{Key: object.Namespace + "/" + object.Name, Created: object.CreationTimestamp.Unix(),
			Local: object.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal}
		for _, ingress := range object.Status.LoadBalancer.Ingress {
			if a, err := netip.ParseAddr(ingress.IP); err == nil {
				s.Has = a
			}
		}
		if a, err := netip.ParseAddr(object.Spec.LoadBalancerIP); err == nil {
			s.Wants = a
		}
		if s.Local {
			if s.Nodes, err = b.nodesOf(object); err != nil {
				return nil, nil, err
			}
		}
		objects[s.Key], services = object, append(services, s)
	}
	return objects, services, nil
}

// nodesOf lists the nodes that have a ready endpoint of a service.
func (b *balancer) nodesOf(s *corev1.Service) ([]string, error) {
	of, err := b.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of %s/%s: %w", s.Namespace, s.Name, err)
	}
	var nodes []string
	for _, slice := range of {
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				nodes = append(nodes, *e.NodeName)
			}
		}
	}
	return nodes, nil
}

// serving lists the nodes that take traffic.
func (b *balancer) serving() ([]Node, error) {
	all, err := b.nodes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	var nodes []Node
	for _, object := range all {
		if n, ok := takesTraffic(object); ok {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// takesTraffic reports whether traffic may be sent to a node: it is Ready, a machine
// of its own (simulated ones are on loopback), and not excluded by its label.
func takesTraffic(object *corev1.Node) (Node, bool) {
	n := Node{Name: object.Name}
	for _, a := range object.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() && !n.Address.IsValid() {
			n.Address = ip
		}
	}
	ready := false
	for _, c := range object.Status.Conditions {
		ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	_, excluded := object.Labels[corev1.LabelNodeExcludeBalancers]
	return n, ready && !excluded && n.Address.IsValid() && !n.Address.IsLoopback()
}

// write puts an address into a service's status. The zero address removes the existing one.
func (b *balancer) write(ctx context.Context, s *corev1.Service, a netip.Addr) error {
	want := []corev1.LoadBalancerIngress{}
	if a.IsValid() {
		want = append(want, corev1.LoadBalancerIngress{IP: a.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
	}
	has := s.Status.LoadBalancer.Ingress
	if len(has) == len(want) && (len(want) == 0 || has[0].IP == want[0].IP && has[0].Hostname == "") {
		return nil
	}
	// The patch is conditional. Otherwise the address could go to a service that has been deleted and
	// created again since.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": s.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": want}},
	})
	if err != nil {
		return fmt.Errorf("encode a status: %w", err)
	}
	_, err = b.client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // it has changed, and the event of that change requests another sync
	}
	if err != nil {
		return fmt.Errorf("write the address of the service %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}

// tell records an event about a problem, once.
func (b *balancer) tell(s *corev1.Service, problem string) {
	key := s.Namespace + "/" + s.Name
	if b.told[key] == problem {
		return
	}
	b.told[key] = problem
	if problem != "" {
		b.events.Event(s, corev1.EventTypeWarning, "NoAddress", problem)
	}
}
