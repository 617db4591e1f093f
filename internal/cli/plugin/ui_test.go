package plugin

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// The plugin serves the page as well, under its name, until it is interrupted.
func TestUI(t *testing.T) {
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := Main([]string{pluginName, "ui", "--open=false", "--replay", "../../../docs/pictures/three-nodes.fleet.gz"}, strings.NewReader(""), in, io.Discard)
		_ = in.Close()
		ended <- code
	}()
	link := ""
	lines := bufio.NewScanner(out)
	for link == "" && lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, "http://127.0.0.1:") {
			link = text
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	address, token, ok := strings.Cut(link, "/#token=")
	if !ok {
		t.Fatalf("the link is %q", link)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	about := ""
	for told := bufio.NewScanner(r.Body); about == "" && told.Scan(); {
		if data, is := strings.CutPrefix(told.Text(), "data: "); is {
			about = data
		}
	}
	if !strings.Contains(about, `"program":"kubectl everynode","actions":false`) {
		t.Errorf("the page is told %s", about)
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
