package controlplane

import (
	"fmt"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"everynode/internal/controlplane/private"
	"everynode/internal/strictyaml"
)

// authenticationFile, in the data directory, tells the API server which anonymous requests
// to let in. The administrator's file replaces it.
const authenticationFile = "authentication.yaml"

// serviceAccountIssuer is the issuer in the tokens of service accounts.
const serviceAccountIssuer = "https://kubernetes.default.svc.cluster.local"

// clusterInfoPath is what a machine reads when it neither trusts the API server yet nor is known to it.
const clusterInfoPath = "/api/v1/namespaces/" + metav1.NamespacePublic + "/configmaps/" + bootstrapapi.ConfigMapClusterInfo

// anonymousRequests lets in only the anonymous requests that must work: health checks
// of agents and load balancers, and what a joining machine reads. The API server
// refuses all others before authorization.
func anonymousRequests() *apiserverv1.AnonymousAuthConfig {
	paths := []string{"/livez", "/readyz", "/healthz", clusterInfoPath}
	config := &apiserverv1.AnonymousAuthConfig{Enabled: true}
	for _, path := range paths {
		config.Conditions = append(config.Conditions, apiserverv1.AnonymousAuthCondition{Path: path})
	}
	return config
}

// readAuthentication returns the absolute path of the administrator's file; "" if there is none. It refuses a file
// that the API server would refuse, and one that says nothing about anonymous requests: the API server would then let
// in all of them.
func readAuthentication(name string) (file string, err error) {
	if name == "" {
		return "", nil
	}
	file, err = filepath.Abs(name)
	if err != nil {
		return file, fmt.Errorf("resolve --authentication-config %q: %w", name, err)
	}
	text, err := readTrusted(file)
	if err != nil {
		return file, fmt.Errorf("read --authentication-config: %w", err)
	}
	object, err := runtime.Decode(strictAPIServerCodecs().UniversalDecoder(), text)
	if err != nil {
		return file, fmt.Errorf("%s is not an AuthenticationConfiguration of %s: %w", file, apiserverv1.SchemeGroupVersion, err)
	}
	if _, err := strictyaml.ToJSON(text); err != nil {
		return file, fmt.Errorf("%s: %w", file, err)
	}
	config, ok := object.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return file, fmt.Errorf("%s is not an AuthenticationConfiguration of %s, but a %T", file, apiserverv1.SchemeGroupVersion, object)
	}
	invalid := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), config, []string{serviceAccountIssuer})
	if err := invalid.ToAggregate(); err != nil {
		return file, fmt.Errorf("%s: %w", file, err)
	}
	return file, checkAnonymous(file, config.Anonymous)
}

func checkAnonymous(file string, given *apiserver.AnonymousAuthConfig) error {
	if given == nil {
		section, err := yaml.Marshal(map[string]any{"anonymous": anonymousRequests()})
		if err != nil {
			return fmt.Errorf("encode who may ask without a name: %w", err)
		}
		return fmt.Errorf("%s does not restrict anonymous requests, so every request without a name would be let in: add\n%s", file, section)
	}
	open := given.Enabled && len(given.Conditions) == 0
	if open {
		klog.Warningf("%s lets in requests without a name for every path: name only the needed paths in anonymous.conditions", file)
	}
	if !open && !slices.ContainsFunc(given.Conditions, func(c apiserver.AnonymousAuthCondition) bool { return c.Path == clusterInfoPath }) {
		klog.Warningf("No machine can join: %s does not let machines read %s without a name. Add that path to anonymous.conditions when a machine should join", file, clusterInfoPath)
	}
	return nil
}

// authentication is the configuration by which an API server authenticates requests.
type authentication struct {
	data dataFolder
	file string // of the administrator; "": there is none
}

// write tells the API server which anonymous requests to let in, unless the
// administrator's file does.
func (a authentication) write() error {
	if a.file != "" {
		return nil
	}
	data, err := yaml.Marshal(apiserverv1.AuthenticationConfiguration{
		TypeMeta:  metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "AuthenticationConfiguration"},
		Anonymous: anonymousRequests(),
	})
	if err != nil {
		return fmt.Errorf("encode who may ask without a name: %w", err)
	}
	return private.WriteIfChanged(a.data.path(authenticationFile), data)
}

// flags returns kube-apiserver's flags for authentication. The API server reads the
// administrator's file again when it changes.
func (a authentication) flags() []string {
	if a.file != "" {
		return []string{"--authentication-config=" + a.file}
	}
	return []string{"--authentication-config=" + a.data.path(authenticationFile)}
}
