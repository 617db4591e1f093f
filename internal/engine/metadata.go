package engine

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	internalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// acceptMetadata requests lists whose items contain only metadata.
const acceptMetadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
	"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// metadataReader lists metadata of the core group. It does what client-go's
// metadata client does, but cuts out annotations and managed fields before they
// are decoded: of a node they are the larger part.
type metadataReader struct{ client rest.Interface }

func newMetadataReader(c *rest.Config, transport *http.Client) (metadataReader, error) {
	c = rest.CopyConfig(c)
	c.APIPath, c.GroupVersion = "/api", &corev1.SchemeGroupVersion
	c.NegotiatedSerializer = newTrimming(internalversion.Codecs.WithoutConversion())
	client, err := rest.RESTClientForConfigAndClient(c, transport)
	return metadataReader{once{client}}, err
}

// list reads a page of a namespace, or of all if that is empty.
func (m metadataReader) list(ctx context.Context, resource, namespace string, opts metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	got, err := m.client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).VersionedParams(&opts, scheme.ParameterCodec).
		SetHeader("Accept", acceptMetadata).Do(ctx).Get()
	if err != nil {
		return nil, err
	}
	page, ok := got.(*metav1.PartialObjectMetadataList)
	if !ok {
		return nil, fmt.Errorf("the server answered a request for the metadata of %s with %T", resource, got)
	}
	return page, nil
}
