package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"everynode/internal/node/upstream"
)

const (
	// clusterDomain is the domain of the names of services and pods.
	clusterDomain = "cluster.local"
	// dnsService is the service of the cluster's DNS.
	dnsService = "kube-dns"
	// dnsWithin is how long a node that knows no DNS yet asks for it.
	dnsWithin = 10 * time.Second
)

// clusterDNS returns the address of the cluster's DNS: the configured one, or the
// address of its service. It saves the last answer, because a node also starts when
// no API server answers. "" means that the cluster has no DNS.
func (cfg Config) clusterDNS(ctx context.Context) (string, error) {
	if cfg.ClusterDNS != "" {
		return cfg.ClusterDNS, nil
	}
	known, err := os.ReadFile(cfg.files().dns())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the address of the cluster's DNS: %w", err)
	}
	address := strings.TrimSpace(string(known))
	var said string
	var last error
	err = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, dnsWithin, true, func(ctx context.Context) (bool, error) {
		said, last = cfg.askDNS(ctx)
		return last == nil || address != "", nil
	})
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case last != nil && address != "":
		cfg.Log.Warn("the cluster does not publish the address of its DNS; continuing with the saved one", "address", address, "err", last)
		return address, nil
	case err != nil:
		cfg.Log.Warn("the cluster does not publish the address of its DNS: pods get the name servers of this machine until the agent restarts", "err", errors.Join(err, last))
		return "", nil
	case said == "":
		cfg.Log.Info("the cluster has no DNS: pods get the name servers of this machine")
	}
	return said, writeFile(cfg.files().dns(), []byte(said+"\n"))
}

// askDNS asks the API server for the address of the cluster's DNS, with the bootstrap
// credentials while they exist, otherwise with the node's own. A cluster that does
// not have the service, or does not let nodes see it, has no DNS.
func (cfg Config) askDNS(ctx context.Context) (string, error) {
	credentials := cfg.files().kubeconfig()
	if _, err := os.Stat(cfg.files().bootstrapKubeconfig()); err == nil {
		credentials = cfg.files().bootstrapKubeconfig()
	}
	client, err := upstream.Client(credentials)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, dnsWithin/2)
	defer cancel()
	service, err := client.CoreV1().Services(metav1.NamespaceSystem).Get(ctx, dnsService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for the service %s: %w", dnsService, err)
	}
	if _, err := netip.ParseAddr(service.Spec.ClusterIP); err != nil {
		return "", nil // pods cannot ask a service that has no address
	}
	return service.Spec.ClusterIP, nil
}

// resolver returns the file with the name servers that pods get, and that CoreDNS
// asks for names outside the cluster. It is the machine's own file, or one in the
// data directory if pods cannot use the machine's.
func (cfg Config) resolver(file, systemdFile string) (string, error) {
	file = resolvConf(file, systemdFile)
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the machine's name servers: %w", err)
	}
	usable := withoutLoopback(string(text), cfg.NodeIP)
	if usable == string(text) {
		return file, nil
	}
	cfg.Log.Warn("pods cannot reach the name servers on this machine's loopback interface; leaving those out", "file", file, "instead", cfg.files().path("resolv.conf"))
	return cfg.files().path("resolv.conf"), writeFile(cfg.files().path("resolv.conf"), []byte(usable))
}

// withoutLoopback removes the name servers on loopback from the text of a
// resolv.conf. In a pod, loopback is the pod itself: CoreDNS would ask itself,
// notice, and exit. If no name server is left, it adds the node's address. A name
// server of the machine may listen there, too. If none does, the node refuses queries
// at once, but CoreDNS starts.
func withoutLoopback(text, node string) string {
	var kept strings.Builder
	servers := 0
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil && (a.IsLoopback() || a.IsUnspecified()) {
				continue
			}
			servers++
		}
		kept.WriteString(line)
	}
	if servers > 0 {
		return kept.String()
	}
	rest := kept.String()
	if rest != "" && !strings.HasSuffix(rest, "\n") {
		rest += "\n"
	}
	return rest + "nameserver " + node + "\n"
}

// resolvConf picks the resolv.conf for pods. They cannot use one that names only
// systemd's stub resolver, which listens on the host's loopback. systemd keeps the
// real one in another file.
func resolvConf(file, systemdFile string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return file
	}
	stub := false
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if !strings.HasPrefix(fields[1], "127.") && fields[1] != "::1" {
			return file
		}
		stub = true
	}
	if _, err := os.Stat(systemdFile); stub && err == nil {
		return systemdFile
	}
	return file
}
