package controlplane

import (
	"flag"
	"fmt"

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
	return nil
}
