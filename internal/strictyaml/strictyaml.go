// Package strictyaml reads files that people write: settings, lists, policies. What is
// not understood is an error, so that nothing that somebody wrote is silently left out.
package strictyaml

import (
	"bytes"
	"errors"
	"io"

	yamlv3 "go.yaml.in/yaml/v3"
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

// ToJSON returns the one document that a file has, as JSON; null for none.
func ToJSON(text []byte) ([]byte, error) {
	if err := oneDocument(text); err != nil {
		return nil, err
	}
	return yaml.YAMLToJSONStrict(text)
}

// oneDocument refuses what follows the first document: those who read one leave it out without a word. After
// it there may be comments.
func oneDocument(text []byte) error {
	documents := yamlv3.NewDecoder(bytes.NewReader(text))
	for i := 0; ; i++ {
		var document yamlv3.Node
		switch err := documents.Decode(&document); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case i > 0 && !empty(&document):
			return errors.New("it has more than one document: keep only one")
		}
	}
}

func empty(document *yamlv3.Node) bool {
	return len(document.Content) == 0 || document.Content[0].Tag == "!!null"
}
