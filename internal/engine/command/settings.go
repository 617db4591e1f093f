package command

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/strictyaml"
	"everynode/internal/view"
)

// The kind and version that a configuration file must have.
const (
	configVersion = "everynode.io/v1alpha1"
	configKind    = "ControllerConfiguration"
)

// BindByUsage is the help text of the flag --bind-by, wherever it exists.
const BindByUsage = `who binds pods to nodes: the "engine" if the template alone decides their place, or always the "scheduler", as upstream; a DaemonSet's annotation everynode.io/bind-by wins`

// The modes.
const (
	inCharge = "engine"
	assists  = "assist"
)

func modes() []string      { return []string{inCharge, assists} }
func logFormats() []string { return []string{"text", "json"} }

// Binders are the words that --bind-by takes, wherever it exists.
func Binders() []string { return []string{string(view.ByEngine), string(view.ByScheduler)} }

// settings are set by flags and by the configuration file. The names in the file are
// those of the flags in camel case.
type settings struct {
	Mode                 string  `json:"mode"`
	Kubeconfig           string  `json:"kubeconfig"`
	LeaderElect          bool    `json:"leaderElect"`
	CreateQPS            float64 `json:"createQPS"`
	BindBy               string  `json:"bindBy"`
	AllowNewerServer     bool    `json:"allowNewerServer"`
	AllowOtherController bool    `json:"allowOtherController"`
	Verbosity            int     `json:"verbosity"`
	LogFormat            string  `json:"logFormat"`
	MetricsBindAddress   string  `json:"metricsBindAddress"`
	TLSCertFile          string  `json:"tlsCertFile"`
	TLSPrivateKeyFile    string  `json:"tlsPrivateKeyFile"`
	ClientCAFile         string  `json:"clientCAFile"`
	Profiling            bool    `json:"profiling"`
}

func defaults() settings {
	return settings{Mode: inCharge, LeaderElect: true, BindBy: string(view.ByEngine), LogFormat: "text", MetricsBindAddress: "127.0.0.1:10261"}
}

// bind adds the flags. Current values are their defaults.
func (s *settings) bind(f *pflag.FlagSet) {
	f.StringVar(&s.Mode, "mode", s.Mode, `"engine": this is the DaemonSet controller of the cluster; "assist": another one is, and this deletes the outdated pods of OnDelete DaemonSets that follow a policy, in its waves`)
	f.StringVar(&s.Kubeconfig, "kubeconfig", s.Kubeconfig, "kubeconfig of the cluster; without it, the service account of the pod it runs in")
	f.BoolVar(&s.LeaderElect, "leader-elect", s.LeaderElect, "work only while holding the lease kube-system/everynode-controller")
	f.Float64Var(&s.CreateQPS, "create-qps", s.CreateQPS, "maximum number of pods to create per second; 0: as fast as the API server accepts them")
	f.StringVar(&s.BindBy, "bind-by", s.BindBy, BindByUsage)
	f.BoolVar(&s.AllowNewerServer, "allow-newer-server", s.AllowNewerServer, "work on an API server more than one minor version newer; template fields that it added would be lost")
	f.BoolVar(&s.AllowOtherController, "allow-other-controller", s.AllowOtherController, "do not check whether another DaemonSet controller is active; two controllers delete each other's pods")
	f.IntVarP(&s.Verbosity, "v", "v", s.Verbosity, "0: what an operator should know; 4 and above: details of what the engine does")
	f.StringVar(&s.LogFormat, "log-format", s.LogFormat, `"text" or "json"`)
	f.StringVar(&s.MetricsBindAddress, "metrics-bind-address", s.MetricsBindAddress, "IP and port of /healthz, /readyz and /metrics; other than loopback only with a certificate, and metrics then only for users whom the API server lets get /metrics; 0: none")
	f.StringVar(&s.TLSCertFile, "tls-cert-file", s.TLSCertFile, "certificate for --metrics-bind-address, read again when it changes")
	f.StringVar(&s.TLSPrivateKeyFile, "tls-private-key-file", s.TLSPrivateKeyFile, "key of --tls-cert-file")
	f.StringVar(&s.ClientCAFile, "client-ca-file", s.ClientCAFile, "serve /metrics to clients with a certificate of this CA instead of those with a token; probes need neither")
	f.BoolVar(&s.Profiling, "profiling", s.Profiling, "serve /debug/pprof as well")
}

// load reads a configuration file. Flags on the command line take precedence.
func (s *settings) load(file string, given *pflag.FlagSet) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	from, err := parseConfig(text)
	if err != nil {
		return wrongCall{fmt.Errorf("--config %s: %w", file, err)}
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	from.bind(flags)
	var wrong []error
	given.Visit(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) != nil {
			wrong = append(wrong, flags.Set(f.Name, f.Value.String()))
		}
	})
	*s = from
	return errors.Join(wrong...)
}

// parseConfig parses a configuration file. A field that is unknown, or that appears
// twice, is an error that names it.
func parseConfig(text []byte) (settings, error) {
	doc := struct {
		metav1.TypeMeta `json:",inline"`
		settings        `json:",inline"`
	}{settings: defaults()}
	strict, err := strictyaml.Unmarshal(text, &doc)
	if err != nil {
		return settings{}, err
	}
	if doc.APIVersion != configVersion || doc.Kind != configKind {
		return settings{}, fmt.Errorf("it is apiVersion %q, kind %q: this version reads apiVersion %s, kind %s", doc.APIVersion, doc.Kind, configVersion, configKind)
	}
	return doc.settings, errors.Join(strict...)
}

// check returns an error for invalid settings.
func (s *settings) check() error {
	_, err := view.ParseBinder(s.BindBy)
	switch {
	case err != nil:
		return fmt.Errorf("--bind-by: %w", err)
	case !slices.Contains(modes(), s.Mode):
		return fmt.Errorf(`--mode %q: must be "engine" or "assist"`, s.Mode)
	case s.Mode == assists && s.CreateQPS != 0:
		return errors.New("--create-qps: with --mode=assist no pods are created; leave it out")
	case s.CreateQPS < 0:
		return fmt.Errorf("--create-qps %g: must be 0 (no limit) or more", s.CreateQPS)
	case !slices.Contains(logFormats(), s.LogFormat):
		return fmt.Errorf(`--log-format %q: must be "text" or "json"`, s.LogFormat)
	}
	return s.checkServing()
}
