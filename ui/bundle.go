// Command ui makes the page of `everynode ui` from what is in this folder: one script, one style sheet, and what is copied. It
// needs preact, which `npm ci` puts into ../bin/ui (make page).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	to := flag.String("to", "../internal/ui/page", "the folder that the page is written to")
	flag.Parse()
	if err := write(*to); err != nil {
		fmt.Fprintln(os.Stderr, "make the page:", err)
		os.Exit(1)
	}
}

func write(to string) error {
	files, err := page(".")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copied returns the files that need no making.
func copied() []string { return []string{"index.html", "favicon.svg"} }

// page returns all of its files, by name. The same sources give the same bytes.
func page(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range copied() {
		text, err := os.ReadFile(filepath.Join(dir, "static", name))
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	for name, entry := range map[string]string{"app.js": "src/main.tsx", "app.css": "src/style.css"} {
		text, err := bundle(dir, entry)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry, err)
		}
		files[name] = text
	}
	return files, nil
}

func bundle(dir, entry string) ([]byte, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir: absolute, EntryPoints: []string{entry}, Bundle: true, Write: false,
		Format: api.FormatIIFE, Target: api.ES2022, Charset: api.CharsetUTF8,
		MinifySyntax: true, MinifyWhitespace: true, MinifyIdentifiers: true, LegalComments: api.LegalCommentsNone,
		JSX: api.JSXAutomatic, JSXImportSource: "preact", Tsconfig: "tsconfig.json", LogLevel: api.LogLevelSilent,
	})
	if len(result.Errors) > 0 {
		return nil, errors.New(strings.Join(api.FormatMessages(result.Errors, api.FormatMessagesOptions{Kind: api.ErrorMessage}), "\n"))
	}
	if len(result.OutputFiles) != 1 {
		return nil, fmt.Errorf("%d files came of it, not one", len(result.OutputFiles))
	}
	return result.OutputFiles[0].Contents, nil
}
