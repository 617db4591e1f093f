package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	fields "k8s.io/apimachinery/pkg/util/validation/field"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/strictyaml"
)

// The kind and version that a file of `up --config` must have.
const (
	clusterFileVersion = "everynode.io/v1alpha1"
	clusterFileKind    = "Cluster"
)

// clusterFile is a cluster as a file describes it. What the file leaves out has the
// default; flags override the file.
type clusterFile struct {
	metav1.TypeMeta     `json:",inline"`
	Nodes               []localcluster.NodeSpec `json:"nodes,omitempty"`
	Simulate            *fileSimulate           `json:"simulate,omitempty"`
	DaemonSetController *bool                   `json:"daemonSetController,omitempty"`
	CNI                 string                  `json:"cni,omitempty"`
	KubeProxy           *bool                   `json:"kubeProxy,omitempty"`
	With                []string                `json:"with,omitempty"`
	Without             []string                `json:"without,omitempty"`
	HostPathPolicy      string                  `json:"hostPathPolicy,omitempty"`
	Audit               *bool                   `json:"audit,omitempty"`
	Publish             []string                `json:"publish,omitempty"`
	RegistryConfig      string                  `json:"registryConfig,omitempty"` // a path, from the working directory
	KubeletConfig       string                  `json:"kubeletConfig,omitempty"`  // also a path
	ContainerdConfig    string                  `json:"containerdConfig,omitempty"`
}

// fileSimulate are the simulated nodes: each field is the flag --simulate-NAME.
type fileSimulate struct {
	Nodes  int     `json:"nodes"`
	Start  string  `json:"start,omitempty"`
	Ready  string  `json:"ready,omitempty"`
	Stop   string  `json:"stop,omitempty"`
	Jitter string  `json:"jitter,omitempty"`
	Fail   string  `json:"fail,omitempty"`
	Seed   *uint64 `json:"seed,omitempty"`
}

// readClusterFile reads a file; "-" is standard input. Every error names the file.
func readClusterFile(name string, stdin io.Reader) (*clusterFile, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	f, err := parseClusterFile(text)
	if err != nil {
		return nil, console.Usage(fmt.Errorf("--config %s: %w", name, err))
	}
	return f, nil
}

// parseClusterFile reads the text of a file. An unknown field, or one that is
// repeated, is an error that names it.
func parseClusterFile(text []byte) (*clusterFile, error) {
	f := &clusterFile{}
	strict, err := strictyaml.Unmarshal(text, f)
	if err != nil {
		return nil, err
	}
	if f.APIVersion != clusterFileVersion || f.Kind != clusterFileKind {
		return nil, fmt.Errorf("it is apiVersion %q, kind %q: this version reads apiVersion %s, kind %s", f.APIVersion, f.Kind, clusterFileVersion, clusterFileKind)
	}
	return f, errors.Join(append(strict, f.check())...)
}

// check names the nodes that have no name, and returns an error for nodes that are
// repeated or invalid.
func (f *clusterFile) check() error {
	var errs []error
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.Name == "" {
			n.Name = fmt.Sprintf("node-%d", i+1)
		}
		if slices.ContainsFunc(f.Nodes[:i], func(o localcluster.NodeSpec) bool { return o.Name == n.Name }) {
			errs = append(errs, fmt.Errorf("node %s is there twice", n.Name))
		}
		if err := checkNode(n); err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// checkNode returns what is invalid about a node, and sets its Size.
func checkNode(n *localcluster.NodeSpec) error {
	invalid := metav1validation.ValidateLabels(n.Labels, fields.NewPath("labels"))
	path := fields.NewPath("taints")
	for i, t := range n.Taints {
		invalid = append(invalid, checkTaint(t, path.Index(i))...)
		if slices.ContainsFunc(n.Taints[:i], func(o corev1.Taint) bool { return o.Key == t.Key }) {
			invalid = append(invalid, fields.Duplicate(path.Index(i).Child("key"), t.Key))
		}
	}
	size, err := (&sizeFlags{cpu: n.CPU, memory: n.Memory}).size()
	n.Size = size
	return errors.Join(invalid.ToAggregate(), err)
}

// checkTaint returns what the API server would refuse about a taint.
func checkTaint(t corev1.Taint, path *fields.Path) (invalid fields.ErrorList) {
	for _, problem := range validation.IsQualifiedName(t.Key) {
		invalid = append(invalid, fields.Invalid(path.Child("key"), t.Key, problem))
	}
	for _, problem := range validation.IsValidLabelValue(t.Value) {
		invalid = append(invalid, fields.Invalid(path.Child("value"), t.Value, problem))
	}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if !slices.Contains(effects, t.Effect) {
		invalid = append(invalid, fields.NotSupported(path.Child("effect"), t.Effect, effects))
	}
	return invalid
}

// fill sets the flags that the user did not give to the file's values.
func (f *clusterFile) fill(flags *pflag.FlagSet) error {
	if len(f.Nodes) > 0 && flags.Changed("nodes") {
		return console.Usage(errors.New("--nodes and the nodes of --config exclude each other: leave one of them out"))
	}
	for name, value := range f.flags() {
		if value == "" || flags.Changed(name) {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return console.Usage(fmt.Errorf("--config: %s: %w", strings.ReplaceAll(name, "-", "."), err))
		}
	}
	return nil
}

// flags returns the file's values by flag; "" means that the file has none.
func (f *clusterFile) flags() map[string]string {
	values := map[string]string{localcluster.FlagHostPaths: f.HostPathPolicy, localcluster.FlagRegistries: f.RegistryConfig, localcluster.FlagKubelet: f.KubeletConfig, localcluster.FlagContainerd: f.ContainerdConfig, localcluster.FlagPublish: strings.Join(f.Publish, ","), localcluster.FlagEngine: boolText(f.DaemonSetController), localcluster.FlagAudit: boolText(f.Audit),
		localcluster.FlagCNI: f.CNI, localcluster.FlagKubeProxy: boolText(f.KubeProxy),
		localcluster.FlagWith: strings.Join(f.With, ","), localcluster.FlagWithout: strings.Join(f.Without, ",")}
	if s := f.Simulate; s != nil {
		values["simulate"] = strconv.Itoa(s.Nodes)
		values["simulate-start"], values["simulate-ready"], values["simulate-stop"] = s.Start, s.Ready, s.Stop
		values["simulate-jitter"], values["simulate-fail"] = s.Jitter, s.Fail
		if s.Seed != nil {
			values["simulate-seed"] = strconv.FormatUint(*s.Seed, 10)
		}
		if f.Nodes != nil && len(f.Nodes) == 0 {
			values["nodes"] = "0"
		}
	}
	return values
}

func boolText(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}
