package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// probeTime is how long a controller may take to answer: less than a kubelet waits.
const probeTime = 4 * time.Second

// NewProbe returns the command with which a kubelet asks a controller that serves on loopback. It runs in the same pod.
func NewProbe() *cobra.Command {
	return &cobra.Command{
		Use:   "probe URL",
		Short: "Ask a controller in this pod whether it is healthy",
		Long: `Ask a controller in this pod, or on this machine, whether it is healthy: URL is that of its /healthz or /readyz. It exits
with 0 if the answer is 200, and otherwise prints the answer and exits with 1. It is for the probes of a pod that is not
on the network of its node, where a kubelet cannot reach the pod's loopback.`,
		Example: `  everynode-controller probe http://127.0.0.1:10261/readyz`,
		Args: func(cmd *cobra.Command, args []string) error {
			return WrongCall(cmd, cobra.ExactArgs(1)(cmd, args))
		},
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return probe(cmd.Context(), args[0])
		},
	}
}

// probe returns an error unless a GET of the URL is answered with 200. It asks only loopback, without a proxy, and follows no redirect.
func probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return wrongCall{err}
	}
	host, err := netip.ParseAddr(request.URL.Hostname())
	if err != nil || !host.IsLoopback() || request.URL.Scheme != "http" {
		return wrongCall{fmt.Errorf("%s: give http:// and an address of loopback, such as http://127.0.0.1:10261/readyz", url)}
	}
	client := http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the controller does not answer: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("the controller does not answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
