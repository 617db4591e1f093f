package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// kubeContext is a cluster's entry in a kubeconfig: a cluster, a user and a context,
// all with the same name.
type kubeContext struct {
	name          string
	cluster, user *yaml.Node
}

// Keys of a kubeconfig whose values are lists of named items.
const (
	listClusters = "clusters"
	listUsers    = "users"
	listContexts = "contexts"
	keyCurrent   = "current-context"
)

// readContext takes the cluster and the user out of a kubeconfig that has one of each.
func readContext(data []byte, name string) (kubeContext, error) {
	root, err := parseKubeconfig(data)
	if err != nil {
		return kubeContext{}, err
	}
	c := kubeContext{name: name}
	for list, to := range map[string]**yaml.Node{listClusters: &c.cluster, listUsers: &c.user} {
		items := field(root, list)
		if items == nil || len(items.Content) != 1 {
			return kubeContext{}, fmt.Errorf("it has not just one of %s", list)
		}
		if *to = field(items.Content[0], list[:len(list)-1]); *to == nil {
			return kubeContext{}, fmt.Errorf("the only one of its %s is empty", list)
		}
	}
	return c, nil
}

// addTo returns the kubeconfig with the context added and made the current one. It
// replaces a context of the same name. Everything else stays as it is, including
// comments.
func (c kubeContext) addTo(data []byte) ([]byte, error) {
	root, err := parseKubeconfig(data)
	if err != nil {
		return nil, err
	}
	drop(root, c.name)
	both := mapping("cluster", text(c.name), "user", text(c.name))
	for _, item := range []struct {
		list, key string
		value     *yaml.Node
	}{{listClusters, "cluster", c.cluster}, {listUsers, "user", c.user}, {listContexts, "context", both}} {
		items := field(root, item.list)
		if items == nil {
			items = &yaml.Node{}
			root.Content = append(root.Content, text(item.list), items)
		}
		switch {
		case items.Kind == yaml.SequenceNode:
		case items.Kind == 0 || items.Kind == yaml.ScalarNode && items.Tag == "!!null":
			*items = yaml.Node{Kind: yaml.SequenceNode}
		default: // it would be lost
			return nil, fmt.Errorf("its %s are not a list", item.list)
		}
		items.Style = 0 // keep an empty list, "[]", from staying on one line
		items.Content = append(items.Content, mapping("name", text(c.name), item.key, item.value))
	}
	setField(root, keyCurrent, c.name)
	return printed(root)
}

// dropFrom returns the kubeconfig without the context, but only if the context is of
// this cluster: another cluster may have the same name. changed reports whether it was
// removed.
func (c kubeContext) dropFrom(data []byte) (without []byte, changed bool, err error) {
	root, err := parseKubeconfig(data)
	if err != nil {
		return nil, false, err
	}
	there := named(field(root, listClusters), c.name)
	if there == nil || !sameCA(field(there, "cluster"), c.cluster) {
		return data, false, nil
	}
	drop(root, c.name)
	if current := field(root, keyCurrent); current != nil && current.Value == c.name {
		setField(root, keyCurrent, "")
	}
	without, err = printed(root)
	return without, true, err
}

func sameCA(a, b *yaml.Node) bool {
	const key = "certificate-authority-data"
	x, y := field(a, key), field(b, key)
	return x != nil && y != nil && x.Value == y.Value
}

// parseKubeconfig reads a file that may be empty.
func parseKubeconfig(data []byte) (root *yaml.Node, err error) {
	var document, second yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(data))
	if err := documents.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch err := documents.Decode(&second); {
	case err == nil: // kubectl reads only the first, and the others would be lost
		return nil, errors.New("it has more than one document: leave one, without the lines `---` between them")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	if len(document.Content) == 0 {
		return mapping("apiVersion", text("v1"), "kind", text("Config")), nil
	}
	if root = document.Content[0]; root.Kind != yaml.MappingNode {
		return nil, errors.New("it is not a kubeconfig")
	}
	return root, nil
}

func printed(root *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(root), e.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// mapping returns a mapping node of a key, its value, another key, and so on.
func mapping(key string, value *yaml.Node, more ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text(key), value}}
	for i := 0; i+1 < len(more); i += 2 {
		m.Content = append(m.Content, text(more[i].(string)), more[i+1].(*yaml.Node))
	}
	return m
}

// field returns the value of a key, or nil if the mapping does not have it.
func field(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func setField(m *yaml.Node, key, value string) {
	if f := field(m, key); f != nil {
		*f = *text(value)
		return
	}
	m.Content = append(m.Content, text(key), text(value))
}

// named returns the item of a list that has the name, or nil.
func named(list *yaml.Node, name string) *yaml.Node {
	if list == nil {
		return nil
	}
	for _, item := range list.Content {
		if n := field(item, "name"); n != nil && n.Value == name {
			return item
		}
	}
	return nil
}

// drop removes the items with the name from each list.
func drop(root *yaml.Node, name string) {
	for _, list := range []string{listClusters, listUsers, listContexts} {
		if items := field(root, list); items != nil {
			items.Content = slices.DeleteFunc(items.Content, func(item *yaml.Node) bool {
				n := field(item, "name")
				return n != nil && n.Value == name
			})
		}
	}
}
