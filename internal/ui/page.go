package ui

import (
	"embed"
	"net/http"
)

// page is what the folder /ui makes (make page), kept here so that Go alone builds everynode.
//
//go:embed page
var page embed.FS

// addPage serves the page's files. They are the same for everybody, and contain no data.
func addPage(mux *http.ServeMux) {
	for path, file := range map[string]struct{ name, kind string }{
		"/{$}":         {"index.html", "text/html; charset=utf-8"},
		"/app.js":      {"app.js", "text/javascript; charset=utf-8"},
		"/app.css":     {"app.css", "text/css; charset=utf-8"},
		"/favicon.svg": {"favicon.svg", "image/svg+xml"},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			text, err := page.ReadFile("page/" + file.name)
			if err != nil {
				http.Error(w, "this program was built without its page: "+err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", file.kind)
			_, _ = w.Write(text) // a client that does not read it has gone
		})
	}
}
