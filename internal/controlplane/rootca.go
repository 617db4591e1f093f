package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"

	"everynode/internal/controlplane/pki"
)

// publishRootCA keeps the ConfigMap kube-root-ca.crt of each namespace up to date until ctx
// ends. It has the CAs by which pods recognize API servers. publishRootCA runs Kubernetes'
// controller for that, and starts it again whenever the file has changed, because the
// controller gets the CAs only once.
func publishRootCA(ctx context.Context, data dataFolder, cfg *rest.Config) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client for kube-root-ca.crt: %w", err)
	}
	path := data.path("pki", pki.ClusterAuthorities)
	for ctx.Err() == nil {
		authorities, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the cluster's authorities: %w", err)
		}
		if err := publishUntil(ctx, client, authorities, func() bool {
			now, err := os.ReadFile(path)
			return err == nil && !bytes.Equal(now, authorities)
		}); err != nil {
			return err
		}
	}
	return nil
}

// publishUntil publishes authorities (PEM) until ctx ends or they have changed.
func publishUntil(ctx context.Context, client kubernetes.Interface, authorities []byte, changed func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	configMaps := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, rootcacertpublisher.RootCACertConfigMapName).String()
	}))
	namespaces := informers.NewSharedInformerFactory(client, 0)
	publisher, err := rootcacertpublisher.NewPublisher(configMaps.Core().V1().ConfigMaps(), namespaces.Core().V1().Namespaces(), client, authorities)
	if err != nil {
		cancel()
		return fmt.Errorf("make the controller of kube-root-ca.crt: %w", err)
	}
	configMaps.StartWithContext(ctx)
	namespaces.StartWithContext(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		publisher.Run(ctx, 1)
	}()
	defer func() {
		cancel()
		<-done
		configMaps.Shutdown()
		namespaces.Shutdown()
	}()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if changed() {
				return nil
			}
		}
	}
}
