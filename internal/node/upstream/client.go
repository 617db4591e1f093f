package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// Client is a client with the node's own credentials.
func Client(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the node's credentials: %w", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "everynode-agent"))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return client, nil
}

// DirectClient is a client with the node's credentials that connects to the first
// of servers (host:port) that is ready. It does not use the agent, which otherwise
// carries this machine's connections and is about to end. The servers must have
// certificates from ca (PEM).
func DirectClient(kubeconfig string, ca []byte, servers []string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("https://"+net.JoinHostPort(loopback, "6443"), kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the node's credentials: %w", err)
	}
	asking := &probe{}
	if _, err := asking.trust(ca); err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, server := range servers {
			err := asking.ready(ctx, server)
			if err == nil {
				return (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, network, server)
			}
			errs = append(errs, fmt.Errorf("%s: %w", server, err))
		}
		return nil, errors.Join(errs...)
	}
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "everynode-agent"))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return client, nil
}

// OnChange returns a channel that signals when objects of the informer have been
// added, changed or deleted. Several changes may give one signal: whoever looks
// then sees all of them.
func OnChange(informer cache.SharedIndexInformer) (changed <-chan struct{}, err error) {
	c := make(chan struct{}, 1)
	notify := func() {
		select {
		case c <- struct{}{}:
		default: // a look at everything is due already
		}
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	})
	return c, err
}

// Learn watches where the API servers of the cluster are, until ctx ends: the
// endpoints of the service kubernetes.
func (f *Forwarder) Learn(ctx context.Context, kubeconfig string) error {
	client, err := Client(kubeconfig)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceDefault),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{discoveryv1.LabelServiceName: "kubernetes"}.String()
		}))
	endpoints := factory.Discovery().V1().EndpointSlices()
	changed, err := OnChange(endpoints.Informer())
	if err != nil {
		return fmt.Errorf("watch the API servers: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	factory.Start(ctx.Done())
	defer func() {
		cancel() // or the informers would not end
		factory.Shutdown()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		list, err := endpoints.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("list the API servers: %w", err)
		}
		if servers := serversOf(list); len(servers) > 0 {
			if err := f.learn(servers); err != nil {
				return err
			}
		}
	}
}

// serversOf returns the addresses of ready endpoints as host:port, sorted.
func serversOf(list []*discoveryv1.EndpointSlice) []string {
	var servers []string
	for _, s := range list {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for _, port := range s.Ports {
			if ptr.Deref(port.Name, "") != "https" || port.Port == nil {
				continue
			}
			for _, e := range s.Endpoints {
				if !ptr.Deref(e.Conditions.Ready, true) {
					continue
				}
				for _, address := range e.Addresses {
					servers = append(servers, net.JoinHostPort(address, strconv.Itoa(int(*port.Port))))
				}
			}
		}
	}
	slices.Sort(servers)
	return slices.Compact(servers)
}
