package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

const header = "apiVersion: everynode.io/v1alpha1\nkind: ControllerConfiguration\n"

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A file sets what no flag has set.
func TestFlagsWinOverFile(t *testing.T) {
	file := write(t, "config.yaml", header+"createQPS: 50\nleaderElect: false\nverbosity: 4\nlogFormat: json\n")
	s := defaults()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.bind(flags)
	if err := flags.Parse([]string{"--v=0", "--leader-elect", "--kubeconfig=mine"}); err != nil {
		t.Fatal(err)
	}
	if err := s.load(file, flags); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.CreateQPS, want.LogFormat, want.Kubeconfig = 50, "json", "mine"
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// Every setting has a flag of its name, and the other way round.
func TestFileHasEveryFlag(t *testing.T) {
	s := defaults()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.bind(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		name := ""
		for i, part := range strings.Split(f.Name, "-") {
			switch {
			case i == 0:
			case part == "qps" || part == "ca":
				part = strings.ToUpper(part)
			default:
				part = strings.ToUpper(part[:1]) + part[1:]
			}
			name += part
		}
		if name == "v" {
			name = "verbosity"
		}
		value := f.DefValue
		if f.Value.Type() == "string" {
			value = "'" + value + "'"
		}
		if _, err := parseConfig([]byte(header + name + ": " + value + "\n")); err != nil {
			t.Errorf("--%s in a file: %v", f.Name, err)
		}
	})
}

func TestConfigFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		header + "---\n" + header:                  "more than one document",
		header + "createQps: 5\n":                  `unknown field "createQps"`,
		header + "createQPS: 5\ncreateQPS: 6\n":    `"createQPS" already set`,
		header + "createQPS: many\n":               "createQPS",
		header + "leaderElect: [":                  "yaml",
		"createQPS: 5\n":                           `apiVersion "", kind ""`,
		"apiVersion: everynode.io/v2\nkind: Pod\n": "this version reads apiVersion everynode.io/v1alpha1",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Settings that would expose more than intended are refused, with a message that says
// what to set.
func TestSettingsThatCannotBe(t *testing.T) {
	for line, want := range map[string]string{
		"--bind-by=kubelet":                    `--bind-by: "kubelet" is neither "engine" nor "scheduler"`,
		"--create-qps=-1":                      "--create-qps -1",
		"--log-format=xml":                     `"text" or "json"`,
		"--metrics-bind-address=localhost:1":   "must be IP:PORT",
		"--metrics-bind-address=0.0.0.0:10261": "give --tls-cert-file",
		"--metrics-bind-address=:10261":        "must be IP:PORT",
		"--tls-cert-file=a":                    "go together",
		"--client-ca-file=a":                   "needs --tls-cert-file",
		"--metrics-bind-address=0 --profiling": "--profiling needs",
		"--metrics-bind-address=[::]:1 --profiling --tls-cert-file=a --tls-private-key-file=b": "give --client-ca-file",
		"--metrics-bind-address=0":                                                     "",
		"--metrics-bind-address=[::1]:10261 --profiling":                               "",
		"--metrics-bind-address=10.0.0.1:1 --tls-cert-file=a --tls-private-key-file=b": "",
	} {
		s := defaults()
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.bind(flags)
		if err := flags.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		switch err := s.check(); {
		case err == nil && want != "":
			t.Errorf("%s is accepted", line)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// Flags and files that cannot be are wrong calls. A file that cannot be read is not.
func TestWrongSettingsAreWrongCalls(t *testing.T) {
	for line, want := range map[string]int{
		"--mode=foo":       2,
		"--log-format=xml": 2,
		"--create-qps=-5":  2,
		"--config=" + write(t, "pod.yaml", "apiVersion: v1\nkind: Pod\n"): 2,
		"--config=none": 1,
	} {
		cmd := New()
		cmd.SetArgs(strings.Fields(line))
		cmd.SilenceErrors = true
		if code := ExitCode(cmd.ExecuteContext(t.Context())); code != want {
			t.Errorf("%s: exit code %d, want %d", line, code, want)
		}
	}
}
