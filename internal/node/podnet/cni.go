package podnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"everynode/internal/atomicfile"
)

// The pod networks that a node can have.
const (
	Everynode = "everynode" // ours: a bridge, and routes to the other nodes
	None      = "none"      // none, until the operator installs one
)

// Names are the names of the pod networks.
func Names() []string { return []string{Everynode, None} }

// Check refuses a name that is not one of [Names].
func Check(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	return fmt.Errorf("there is no such pod network; choose one of %s; with %s you install your own", strings.Join(Names(), ", "), None)
}

// Bridge is the bridge that this node's pods are connected to.
const Bridge = "cni0"

// ConfigName is the name of the configuration file of the agent's network. Runtimes
// take the first file by name.
const ConfigName = "10-everynode.conflist"

// conflist is the CNI configuration for a node whose pods are in the range own. The
// agent does the masquerading (see masquerade): the bridge plugin's would hide pods
// from each other across nodes.
func conflist(own netip.Prefix, ipamDir string) ([]byte, error) {
	type object = map[string]any
	out, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "everynode",
		"plugins": []object{
			{
				"type":         "bridge",
				"bridge":       Bridge,
				"isGateway":    true,
				"forceAddress": true, // the Node may come back with another range
				"hairpinMode":  true, // a pod may reach itself through its service
				"ipMasq":       false,
				"ipam": object{
					"type":    "host-local",
					"dataDir": ipamDir,
					"ranges":  [][]object{{{"subnet": own.String()}}},
					"routes":  []object{{"dst": "0.0.0.0/0"}},
				},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"capabilities": object{"portMappings": true},
			},
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render the CNI configuration: %w", err)
	}
	return append(out, '\n'), nil
}

// writeConfig writes the CNI configuration if the file differs: the runtime reloads
// its network after every write. Plugins that others have chained to everynode's
// stay.
func (n *Network) writeConfig(own netip.Prefix) error {
	if n.Foreign {
		if other := otherNetwork(n.ConfigDir); other != "" {
			n.Log.Info("the container runtime has its own pod network; leaving it alone", "config", other)
			return nil
		}
	}
	data, err := conflist(own, n.IPAMDir)
	if err != nil {
		return err
	}
	name := filepath.Join(n.ConfigDir, ConfigName)
	if have, err := os.ReadFile(name); err == nil && (bytes.Equal(have, data) || isChained(have, data)) {
		return nil
	}
	if err := os.MkdirAll(n.ConfigDir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", name, err)
	}
	if err := atomicfile.Write(name, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	n.Log.Info("pod network configured", "range", own)
	return nil
}

// isChained reports whether have is the network of want with more plugins after its
// own: service meshes add theirs to the network that they find.
func isChained(have, want []byte) bool {
	var is, should struct {
		Name    string `json:"name"`
		Plugins []any  `json:"plugins"`
	}
	if json.Unmarshal(have, &is) != nil || json.Unmarshal(want, &should) != nil {
		return false
	}
	n := len(should.Plugins)
	return is.Name == should.Name && len(is.Plugins) > n && reflect.DeepEqual(is.Plugins[:n], should.Plugins)
}

// otherNetwork returns a CNI configuration in dir that is not ours.
func otherNetwork(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.Name() != ConfigName && !strings.HasPrefix(e.Name(), ".") && (ext == ".conf" || ext == ".conflist" || ext == ".json") {
			return filepath.Join(dir, e.Name())
		}
	}
	return ""
}
