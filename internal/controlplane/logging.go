package controlplane

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/grpclog"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// quietLogs lets Kubernetes' parts write only warnings and errors to standard
// error. The API's warnings to users are for users, not for our own clients.
func quietLogs() error {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(fs)
	for name, value := range map[string]string{
		"v": "0", "logtostderr": "true", "legacy_stderr_threshold_behavior": "false", "stderrthreshold": "WARNING",
	} {
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("set up logging (%s=%s): %w", name, value, err)
		}
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, newThinned(klog.Warning), os.Stderr))
	return nil
}

const thinnedInterval = 10 * time.Second

// thinned passes on at most one line in each thinnedInterval. The API server has a
// connection to etcd for each resource. Each of these hundreds of connections logs
// every few seconds that a member cannot be reached.
type thinned struct {
	warn      func(...any)
	sometimes rate.Sometimes
}

func newThinned(warn func(...any)) *thinned {
	return &thinned{warn: warn, sometimes: rate.Sometimes{Interval: thinnedInterval}}
}

func (t *thinned) Write(line []byte) (int, error) {
	t.sometimes.Do(func() { t.warn(strings.TrimSpace(string(line)), " (shown once in ", thinnedInterval, ")") })
	return len(line), nil
}
