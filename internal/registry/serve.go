package registry

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// ServeHTTP answers pulls, as https://github.com/opencontainers/distribution-spec
// specifies them. It asks for no token, because what an archive has is not secret.
// A client that uses it as a mirror names the original registry in the parameter ns.
func (a *Archives) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "images can only be pulled from here")
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if ok && rest == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	rest, last := path.Split(rest)
	rest = strings.TrimSuffix(rest, "/")
	if name, found := strings.CutSuffix(rest, "/manifests"); ok && found {
		a.serveManifest(w, r, r.URL.Query().Get("ns")+"/"+name, last)
		return
	}
	if _, found := strings.CutSuffix(rest, "/blobs"); ok && found {
		a.serveBlob(w, r, digest.Digest(last), "BLOB_UNKNOWN")
		return
	}
	refuse(w, http.StatusNotFound, "UNSUPPORTED", "nothing is served at "+r.URL.Path)
}

func (a *Archives) serveManifest(w http.ResponseWriter, r *http.Request, name, ref string) {
	d := digest.Digest(ref)
	if d.Validate() != nil {
		m, ok := a.images[name+":"+ref]
		if !ok {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no image "+name+":"+ref+" here")
			return
		}
		d = m.Digest
	}
	a.serveBlob(w, r, d, "MANIFEST_UNKNOWN")
}

func (a *Archives) serveBlob(w http.ResponseWriter, r *http.Request, d digest.Digest, unknown string) {
	b, ok := a.blobs[d]
	if !ok {
		refuse(w, http.StatusNotFound, unknown, "there is no "+d.String()+" here")
		return
	}
	kind := b.kind
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeContent(w, r, "", time.Time{}, b.reader())
}

// refuse answers with an error in the protocol's format.
func refuse(w http.ResponseWriter, status int, code, message string) {
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone away needs no answer.
	_ = json.NewEncoder(w).Encode(map[string][]problem{"errors": {{code, message}}})
}
