// Command everynode-ingress is the add-on "ingress": it answers requests as a cluster's Ingress objects specify. It
// runs in a pod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"everynode/internal/ingress"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		klog.ErrorS(err, "everynode-ingress ends")
		klog.Flush()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("everynode-ingress", flag.ContinueOnError)
	service := flags.String("service", "", "NAMESPACE/NAME of the service that leads here: its addresses become those of the Ingresses")
	ports := [3]*string{
		flags.String("http", ":8080", "where to listen for requests without TLS"),
		flags.String("https", ":8443", "where to listen for requests with TLS"),
		flags.String("health", ":10254", "where to answer health checks: 200 once all Ingresses are known"),
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(*service, "/")
	if namespace == "" || name == "" || flags.NArg() > 0 {
		return errors.New("give --service NAMESPACE/NAME, and no arguments but flags")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API server (this program runs in a pod): %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	var listeners [3]net.Listener
	for i, port := range ports {
		if listeners[i], err = new(net.ListenConfig).Listen(ctx, "tcp", *port); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer listeners[i].Close()
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return ingress.Run(ctx, ingress.Config{
		Client: client, Events: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "everynode-ingress"}),
		Namespace: namespace, Service: name, HTTP: listeners[0], HTTPS: listeners[1], Health: listeners[2],
	})
}
