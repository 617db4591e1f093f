// Package strictyaml reads files that people write: settings, lists, policies. What is
// not understood is an error, so that nothing that somebody wrote is silently left out.
package strictyaml

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Unmarshal reads the text of a file, YAML or JSON, into v. unknown are fields that v
// does not have; err is what cannot be read at all: no YAML, a key that is there twice, values
// of another kind, a second document.
func Unmarshal(text []byte, v any) (unknown []error, err error) {
	data, err := ToJSON(text)
	if err != nil {
		return nil, err
	}
	return json.UnmarshalStrict(data, v)
}

// ToJSON is the one document that a file has, as JSON; null for none. Libraries that read one document
// leave all that follow out.
func ToJSON(text []byte) ([]byte, error) {
	found := []byte("null")
	documents := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := yaml.YAMLToJSONStrict(document)
		switch {
		case err != nil:
			return nil, err
		case string(data) == "null": // comments
		case string(found) != "null":
			return nil, errors.New("it has more than one document: leave one, without the lines `---` between them")
		default:
			found = data
		}
	}
}
