package engine

import (
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// once is a client that sends each request once. By default client-go retries a request that was
// answered with 429 or 5xx and Retry-After, up to ten times, and sleeps in between: at the
// deadline a negative answer would have become no answer.
type once struct{ rest.Interface }

func (o once) Verb(verb string) *rest.Request         { return o.Interface.Verb(verb).MaxRetries(0) }
func (o once) Post() *rest.Request                    { return o.Interface.Post().MaxRetries(0) }
func (o once) Put() *rest.Request                     { return o.Interface.Put().MaxRetries(0) }
func (o once) Patch(pt types.PatchType) *rest.Request { return o.Interface.Patch(pt).MaxRetries(0) }
func (o once) Get() *rest.Request                     { return o.Interface.Get().MaxRetries(0) }
func (o once) Delete() *rest.Request                  { return o.Interface.Delete().MaxRetries(0) }

// newObjects is like dynamic.NewForConfigAndClient, but the client sends each request once.
func newObjects(base *rest.Config, transport *http.Client) (dynamic.Interface, error) {
	c := dynamic.ConfigFor(base)
	c.GroupVersion, c.APIPath = nil, "/the-client-names-the-whole-path"
	client, err := rest.UnversionedRESTClientForConfigAndClient(c, transport)
	if err != nil {
		return nil, err
	}
	return dynamic.New(once{client}), nil
}
