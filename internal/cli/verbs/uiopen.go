package verbs

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// opener is the command line of the program that opens a file in the user's browser; empty if there is none.
func opener() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	if path, err := exec.LookPath("xdg-open"); err == nil {
		return []string{path}
	}
	return nil
}

// openBrowser opens the page in the browser. The address has a token, and all users of this machine can read command
// lines, so the browser gets a file that only the user can read and that redirects to the page. closeIt deletes the
// file. If there is no browser, nothing happens.
func openBrowser(url string) (closeIt func(), err error) {
	command := opener()
	if command == nil {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "everynode-ui-") // 0700
	if err != nil {
		return func() {}, fmt.Errorf("make a folder for the link: %w", err)
	}
	remove := func() { _ = os.RemoveAll(dir) } // if it stays, its token is useless by then
	file := filepath.Join(dir, "fleet.html")
	if err := os.WriteFile(file, leadTo(url), 0o600); err != nil {
		remove()
		return func() {}, fmt.Errorf("write the link: %w", err)
	}
	c := exec.Command(command[0], append(command[1:], file)...) // not bound to ctx: this may be the browser itself, which keeps running
	err = c.Start()
	if err == nil {
		err = c.Process.Release()
	}
	if err != nil {
		remove()
		return func() {}, fmt.Errorf("start the program that opens files: %w", err)
	}
	return remove, nil
}

// leadTo returns a page that redirects to url.
func leadTo(url string) []byte {
	to := html.EscapeString(url)
	return fmt.Appendf(nil, "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<meta http-equiv=\"refresh\" content=\"0; url=%s\">\n<title>everynode</title>\n<a href=\"%s\">The fleet</a>\n", to, to)
}
