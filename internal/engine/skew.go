package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
)

// typesMinor is the minor version of Kubernetes whose types this engine is
// built with.
const typesMinor = 37

// checkServer refuses an API server that is more than one minor version newer than our types:
// revisions and pods would lose template fields that we do not know. If the server cannot be
// reached, it tries again until ctx ends.
func checkServer(ctx context.Context, cfg Config, client kubernetes.Interface) error {
	for {
		info, err := discovery.ToServerVersionInterfaceWithContext(client.Discovery()).ServerVersionWithContext(ctx)
		var answered apierrors.APIStatus
		switch {
		case err == nil:
			return refuseNewer(info, cfg.AllowNewerServer)
		case hopeless(err):
			return fmt.Errorf("engine: %s: %w", cfg.Client.Host, explain(err))
		case errors.As(err, &answered):
			cfg.Log.Warn("the API server does not report its version; assuming a supported one", "err", err)
			return nil
		}
		cfg.Log.Warn("cannot reach the API server; trying again", "server", cfg.Client.Host, "err", explain(err))
		cfg.Monitor.waitsFor("the API server "+cfg.Client.Host, explain(err))
		if !sleep(ctx, maxRelist) {
			return nil
		}
	}
}

func refuseNewer(info *version.Info, allow bool) error {
	minor, err := strconv.Atoi(strings.TrimRight(info.Minor, "+"))
	if err != nil || info.Major != "1" {
		return fmt.Errorf("engine: the API server is Kubernetes %s.%s, which this engine does not know: use a newer everynode", info.Major, info.Minor)
	}
	if minor > typesMinor+1 && !allow {
		return fmt.Errorf("engine: the API server is Kubernetes %s, this engine knows 1.%d: fields of pod templates that are newer would be lost. "+
			"Use a newer everynode, or --allow-newer-server when no DaemonSet uses such fields", info.GitVersion, typesMinor)
	}
	return nil
}
