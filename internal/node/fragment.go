package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"everynode/internal/datadir"
	"everynode/internal/strictyaml"
)

// A user's settings of the kubelet. The kubelet itself merges them over the agent's.

// agentOwns are the settings without which the kubelet does not work on this node, and why.
func agentOwns() map[string]string {
	return map[string]string{
		"authentication":           "the cluster decides who may ask the kubelet",
		"authorization":            "the cluster decides who may ask the kubelet",
		"cgroupDriver":             "the container runtime uses the same",
		"cgroupRoot":               "the node's limits are set there",
		"containerRuntimeEndpoint": "the agent starts the runtime, or takes --container-runtime-endpoint",
		"rotateCertificates":       "the node's certificate would expire",
		"serverTLSBootstrap":       "the API server trusts no other certificate",
	}
}

// CheckKubeletConfig returns what is wrong with a file of kubelet settings, or nil. "" is not a file.
func CheckKubeletConfig(file string) error {
	_, err := readKubeletConfig(file)
	return err
}

// readKubeletConfig returns the settings in a file as JSON; nil if file is "".
func readKubeletConfig(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the kubelet's settings: %w", err)
	}
	if err := datadir.CheckTrusted(file); err != nil { // a kubelet starts what its settings name, as root
		return nil, fmt.Errorf("the kubelet's settings: %w", err)
	}
	data, err := checkFragment(text)
	if err != nil {
		return nil, fmt.Errorf("the kubelet's settings in %s: %w", file, err)
	}
	return data, nil
}

// checkFragment returns the settings as JSON. It returns an error if the kubelet does not know a setting,
// or if the agent owns it.
func checkFragment(text []byte) ([]byte, error) {
	var settings kubeletconfig.KubeletConfiguration
	strict, err := strictyaml.Unmarshal(text, &settings)
	if err != nil {
		return nil, err
	}
	if version := kubeletconfig.SchemeGroupVersion.String(); settings.APIVersion != version || settings.Kind != "KubeletConfiguration" {
		return nil, fmt.Errorf("it is apiVersion %q, kind %q: give apiVersion %s, kind KubeletConfiguration", settings.APIVersion, settings.Kind, version)
	}
	data, err := strictyaml.ToJSON(text)
	if err != nil {
		return nil, err
	}
	var named map[string]any
	if err := json.Unmarshal(data, &named); err != nil {
		return nil, err
	}
	for field, reason := range agentOwns() {
		if _, ok := named[field]; ok {
			strict = append(strict, fmt.Errorf("only the agent may set %s: %s", field, reason))
		}
	}
	return data, errors.Join(strict...)
}

// writeKubeletDropIn writes the user's settings for the kubelet, or removes those of an earlier start.
func (cfg Config) writeKubeletDropIn() error {
	file := cfg.files().path("kubelet.d", "10-own.conf")
	if len(cfg.kubeletFragment) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the kubelet's earlier settings: %w", err)
		}
		return nil
	}
	return writeFile(file, cfg.kubeletFragment)
}
