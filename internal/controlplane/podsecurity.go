package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	podsecurityload "k8s.io/pod-security-admission/admission/api/load"
	podsecurity "k8s.io/pod-security-admission/admission/api/v1"
	podsecurityvalidation "k8s.io/pod-security-admission/admission/api/validation"
)

// The Pod Security Standards of Kubernetes.
const (
	PodsPrivileged = "privileged"
	PodsBaseline   = "baseline"
	PodsRestricted = "restricted"
)

// podSecurityPlugin is the name of the admission plugin that enforces a standard.
const podSecurityPlugin = "PodSecurity"

// PodStandards are the values of Config.PodSecurity.
func PodStandards() []string { return []string{PodsPrivileged, PodsBaseline, PodsRestricted} }

// CheckPodStandard refuses a text that is neither empty nor a standard.
func CheckPodStandard(standard string) error {
	if standard != "" && !slices.Contains(PodStandards(), standard) {
		return fmt.Errorf("%q is not a Pod Security Standard (--pod-security): give one of %s", standard, strings.Join(PodStandards(), ", "))
	}
	return nil
}

// podSecurityOf configures the plugin with a standard for namespaces that have no label
// of their own. kube-system is exempt, because the cluster's own parts there work on nodes.
// Other namespaces of ours have a label.
func podSecurityOf(standard string) (plugin apiserverv1.AdmissionPluginConfiguration, err error) {
	config, err := json.Marshal(podsecurity.PodSecurityConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: podsecurity.SchemeGroupVersion.String(), Kind: "PodSecurityConfiguration"},
		Defaults: podsecurity.PodSecurityDefaults{Enforce: standard, EnforceVersion: "latest",
			// Whoever applies a DaemonSet learns at once that its pods will be refused.
			Warn: standard, WarnVersion: "latest", Audit: standard, AuditVersion: "latest"},
		Exemptions: podsecurity.PodSecurityExemptions{Namespaces: []string{metav1.NamespaceSystem}},
	})
	if err != nil {
		return plugin, fmt.Errorf("encode the Pod Security Standard: %w", err)
	}
	return apiserverv1.AdmissionPluginConfiguration{Name: podSecurityPlugin, Configuration: &runtime.Unknown{Raw: config}}, nil
}

// checkPodSecurityConfig refuses an invalid configuration of the plugin. Otherwise the error
// would appear only once the whole API server is built.
func checkPodSecurityConfig(data []byte) error {
	config, err := podsecurityload.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return podsecurityvalidation.ValidatePodSecurityConfiguration(config).ToAggregate()
}
