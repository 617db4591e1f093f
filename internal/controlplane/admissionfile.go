package controlplane

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission"
	apiserverinstall "k8s.io/apiserver/pkg/apis/apiserver/install"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"
	eventratelimit "k8s.io/kubernetes/plugin/pkg/admission/eventratelimit/apis/eventratelimit/install"
	podtolerationrestriction "k8s.io/kubernetes/plugin/pkg/admission/podtolerationrestriction/apis/podtolerationrestriction/install"
	"sigs.k8s.io/yaml"

	"everynode/internal/controlplane/private"
	"everynode/internal/datadir"
	"everynode/internal/strictyaml"
)

// admissionFile, in the data directory, tells the API server how admission plugins are
// configured. It has all that the administrator's file says, and the standard for pods.
const admissionFile = "admission.yaml"

// admissionConfig is a configuration of admission plugins that was read and checked.
type admissionConfig struct {
	text []byte
	// plugins are the names of those in the administrator's file. Some of them are off by default.
	plugins []string
}

// readAdmission reads the administrator's file, if there is one, and adds the standard
// for pods unless the file sets it.
func readAdmission(podSecurity, file string) (c admissionConfig, err error) {
	if err := CheckPodStandard(podSecurity); err != nil {
		return c, err
	}
	config := apiserverv1.AdmissionConfiguration{TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "AdmissionConfiguration"}}
	if file != "" {
		if config.Plugins, err = readAdmissionFile(file); err != nil {
			return c, err
		}
	}
	for _, p := range config.Plugins {
		c.plugins = append(c.plugins, p.Name)
	}
	if slices.Contains(c.plugins, podSecurityPlugin) {
		if podSecurity != "" {
			return c, fmt.Errorf("%s configures %s, and --pod-security was given as well: leave out one of the two", file, podSecurityPlugin)
		}
	} else {
		pods, err := podSecurityOf(cmp.Or(podSecurity, PodsBaseline))
		if err != nil {
			return c, err
		}
		config.Plugins = append(config.Plugins, pods)
	}
	if c.text, err = yaml.Marshal(config); err != nil {
		return c, fmt.Errorf("encode the configuration of admission: %w", err)
	}
	return c, nil
}

// readAdmissionFile returns the plugins of an AdmissionConfiguration, each with its
// configuration inside. The API server itself would end the process if a file is missing,
// and ignore plugins that it does not know or that are off.
func readAdmissionFile(file string) ([]apiserverv1.AdmissionPluginConfiguration, error) {
	text, err := readTrusted(file)
	if err != nil {
		return nil, fmt.Errorf("read --admission-control-config-file: %w", err)
	}
	object, err := runtime.Decode(strictAPIServerCodecs().UniversalDeserializer(), text)
	if err != nil {
		return nil, fmt.Errorf("%s is not an AdmissionConfiguration of %s: %w", file, apiserverv1.SchemeGroupVersion, err)
	}
	if _, err := strictyaml.ToJSON(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	config, ok := object.(*apiserverv1.AdmissionConfiguration)
	if !ok {
		return nil, fmt.Errorf("%s is not an AdmissionConfiguration of %s, but a %T", file, apiserverv1.SchemeGroupVersion, object)
	}
	registry := kubeoptions.NewAdmissionOptions().GenericAdmission.Plugins
	seen := map[string]bool{}
	for i := range config.Plugins {
		p := &config.Plugins[i]
		if seen[p.Name] {
			return nil, fmt.Errorf("%s, plugins[%d]: %s occurs twice: merge the two", file, i, p.Name)
		}
		seen[p.Name] = true
		if err := completePlugin(registry, filepath.Dir(file), p); err != nil {
			return nil, fmt.Errorf("%s, plugins[%d] (%s): %w", file, i, p.Name, err)
		}
	}
	return config.Plugins, nil
}

// completePlugin reads the file of a plugin into it, and refuses what the plugin would refuse.
func completePlugin(registry *admission.Plugins, dir string, p *apiserverv1.AdmissionPluginConfiguration) error {
	if !slices.Contains(registry.Registered(), p.Name) {
		return fmt.Errorf("there is no plugin with this name: give one of %s", strings.Join(registry.Registered(), ", "))
	}
	if p.Path != "" && p.Configuration != nil {
		return errors.New("it has both a path and a configuration: leave out one of the two")
	}
	if p.Path != "" {
		if !filepath.IsAbs(p.Path) {
			p.Path = filepath.Join(dir, p.Path)
		}
		text, err := readTrusted(p.Path)
		if err != nil {
			return err
		}
		raw, err := strictyaml.ToJSON(text)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
		p.Path, p.Configuration = "", &runtime.Unknown{Raw: raw}
	}
	if p.Configuration == nil {
		return nil
	}
	if err := checkKubeconfigs(p.Configuration.Raw); err != nil {
		return err
	}
	if p.Name == podSecurityPlugin {
		return checkPodSecurityConfig(p.Configuration.Raw)
	}
	return tryPlugin(registry, p)
}

// tryPlugin makes the plugin read its configuration, as the API server will. The plugin
// stops there, because everything that it works with is missing. Two plugins ignore fields
// that they do not know, so their configuration is decoded strictly first.
func tryPlugin(registry *admission.Plugins, p *apiserverv1.AdmissionPluginConfiguration) error {
	scheme := runtime.NewScheme()
	eventratelimit.Install(scheme)
	podtolerationrestriction.Install(scheme)
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	if _, err := runtime.Decode(strict.UniversalDecoder(), p.Configuration.Raw); runtime.IsStrictDecodingError(err) {
		return err
	}
	var read readProbe
	_, err := registry.InitPlugin(p.Name, bytes.NewReader(p.Configuration.Raw), &read)
	if read.done {
		return nil
	}
	return err
}

// readProbe notes that a plugin has read its configuration: Initialize is called after that.
type readProbe struct{ done bool }

func (r *readProbe) Initialize(admission.Interface) { r.done = true }

// checkKubeconfigs refuses kubeconfigs that others can read. A configuration can name them
// at any depth. They contain the credentials that the API server presents to a webhook.
func checkKubeconfigs(raw []byte) error {
	var config any
	if err := json.Unmarshal(raw, &config); err != nil {
		return err
	}
	fields, ok := config.(map[string]any)
	if !ok {
		return fmt.Errorf("its configuration is not an object, but %s", raw)
	}
	for name, value := range fields {
		var err error
		switch value := value.(type) {
		case string:
			if name == "kubeConfigFile" && value != "" {
				err = datadir.CheckSecret(value)
			}
		case map[string]any:
			var inner []byte
			if inner, err = json.Marshal(value); err == nil {
				err = checkKubeconfigs(inner)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readTrusted reads a file that says who may do what. It refuses one that others can write.
func readTrusted(file string) ([]byte, error) {
	if err := datadir.CheckTrusted(file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// strictAPIServerCodecs returns codecs that decode the API server's own kinds, and refuse
// fields that they do not know.
func strictAPIServerCodecs() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	apiserverinstall.Install(scheme)
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict)
}

// write writes the configuration to where the API server reads it.
func (c admissionConfig) write(data dataFolder) error {
	return private.WriteIfChanged(data.path(admissionFile), c.text)
}

// flags returns kube-apiserver's flags for admission. A plugin that is configured is on.
func (c admissionConfig) flags(data dataFolder, allowExternalIPs bool) []string {
	plugins := append([]string{"NodeRestriction"}, c.plugins...)
	if !allowExternalIPs {
		// Otherwise whoever may create a Service could make every node send it the traffic for any address.
		plugins = append(plugins, "DenyServiceExternalIPs")
	}
	slices.Sort(plugins)
	return []string{
		"--enable-admission-plugins=" + strings.Join(slices.Compact(plugins), ","),
		"--admission-control-config-file=" + data.path(admissionFile),
	}
}
