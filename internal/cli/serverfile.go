package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"

	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/strictyaml"
)

// The kind and version that a server's file must have.
const (
	serverFileVersion = "everynode.io/v1alpha1"
	serverFileKind    = "ServerConfiguration"
)

// serverConfigFlag names the file.
const serverConfigFlag = "config"

// loadServerFile sets the flags that the file has and the command line does not. The
// file's fields are the flags in camel case.
func loadServerFile(file string, f *pflag.FlagSet) error {
	if err := datadir.CheckTrusted(file); err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	fields, err := parseServerFile(text)
	if err != nil {
		return console.Usage(fmt.Errorf("--config %s: %w", file, err))
	}
	flags := serverFields(f)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		flag := flags[name]
		switch {
		case flag == nil:
			errs = append(errs, fmt.Errorf("unknown field %q%s", name, console.DidYouMean(name, slices.Sorted(maps.Keys(flags)))))
		case !flag.Changed:
			if err := setFlag(f, flag, fields[name]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return console.Usage(fmt.Errorf("--config %s: %w", file, err))
	}
	return nil
}

// parseServerFile returns the fields except kind and version.
func parseServerFile(text []byte) (map[string]any, error) {
	data, err := strictyaml.ToJSON(text)
	if err != nil {
		return nil, err
	}
	meta, fields := metav1.TypeMeta{}, map[string]any{}
	if err := errors.Join(json.UnmarshalCaseSensitivePreserveInts(data, &meta), json.UnmarshalCaseSensitivePreserveInts(data, &fields)); err != nil {
		return nil, err
	}
	if meta.APIVersion != serverFileVersion || meta.Kind != serverFileKind {
		return nil, fmt.Errorf("it is apiVersion %q, kind %q: this version reads apiVersion %s, kind %s", meta.APIVersion, meta.Kind, serverFileVersion, serverFileKind)
	}
	delete(fields, "apiVersion")
	delete(fields, "kind")
	return fields, nil
}

// serverFields returns the flags that a file may set, by their field names. The data
// directory is not one of them: it must be known before the file is read.
func serverFields(f *pflag.FlagSet) map[string]*pflag.Flag {
	fields := map[string]*pflag.Flag{}
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || slices.Contains([]string{serverConfigFlag, "data-dir", "name", "help"}, flag.Name) {
			return
		}
		fields[fieldName(flag.Name)] = flag
	})
	return fields
}

// fieldName returns a flag's name in camel case: etcd-cafile is etcdCAFile.
func fieldName(flag string) string {
	written := map[string]string{"ca": "CA", "cafile": "CAFile", "certfile": "CertFile", "keyfile": "KeyFile", "cidr": "CIDR", "san": "SAN"}
	words := strings.Split(flag, "-")
	for i, word := range words[1:] {
		if known := written[word]; known != "" {
			words[i+1] = known
		} else {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, "")
}

// setFlag sets a flag to a value of a file. The value must have the flag's type.
func setFlag(f *pflag.FlagSet, flag *pflag.Flag, value any) error {
	switch kind := flag.Value.Type(); {
	case kind == "stringSlice":
		list, ok := texts(value)
		if !ok {
			return fmt.Errorf("must be a list of texts, and is %v", value)
		}
		if err := flag.Value.(pflag.SliceValue).Replace(list); err != nil {
			return err
		}
		flag.Changed = true
		return nil
	case kind == "bool" && is[bool](value), kind == "int" && is[int64](value), (kind == "string" || kind == "duration") && is[string](value):
		return f.Set(flag.Name, fmt.Sprint(value))
	default:
		return fmt.Errorf("must be %s, and is %v", map[string]string{"string": "a text", "bool": "true or false", "int": "a whole number", "duration": "a time such as 90s or 12h"}[kind], value)
	}
}

func is[T any](value any) bool {
	_, ok := value.(T)
	return ok
}

// texts converts a value to a list of strings.
func texts(value any) (list []string, ok bool) {
	all, ok := value.([]any)
	for _, v := range all {
		text, isText := v.(string)
		if !isText {
			return nil, false
		}
		list = append(list, text)
	}
	return list, ok
}
