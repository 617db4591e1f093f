package engine

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// respondAsked answers with an object in the form that the request wants: whole, or,
// for a list, only the metadata of each item.
func respondAsked(req *http.Request, obj runtime.Object) (*http.Response, error) {
	if !strings.Contains(req.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		return respond(http.StatusOK, obj)
	}
	from, err := meta.ListAccessor(obj)
	if err != nil {
		panic(err)
	}
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue()}}
	if err := meta.EachListItem(obj, func(o runtime.Object) error {
		m, err := meta.Accessor(o)
		if err == nil {
			list.Items = append(list.Items, *meta.AsPartialObjectMetadata(m))
		}
		return err
	}); err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(mustJSON(list)))}, nil
}
