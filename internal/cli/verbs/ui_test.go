package verbs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"everynode/internal/cli/console"
	"everynode/internal/fleetview"
	"everynode/internal/ui"
)

func TestUIFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--speed 2":                         "--speed and --from are for --replay",
		"--from 1m":                         "--speed and --from are for --replay",
		"--replay f --speed 0":              "--speed 0: give more than 0",
		"--replay f --from -1s":             "--from -1s: give a time that is not negative",
		"--replay f --record g":             "--replay shows what was",
		"--replay f --allow-actions":        "--replay shows what was",
		"--replay f -n apps":                "--replay shows what was",
		"--replay f --kubeconfig k":         "--replay and --kubeconfig exclude each other: a recording is shown without a cluster",
		"--port 70000":                      "--port 70000: give a port from 1 to 65535",
		"now":                               `now: "everynode ui" takes no arguments; did you mean -n now?`,
		"--replay " + "testdata/none.fleet": "play a recording: open testdata/none.fleet",
	} {
		var errs bytes.Buffer
		if code := run(append([]string{"everynode", "ui"}, strings.Fields(args)...), nil, io.Discard, &errs); code == 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("ui %s: exit code %d, %s; want %s", args, code, &errs, want)
		}
	}
}

// waitingRelease returns an API server with the release of testdata/rollout.txtar.
func waitingRelease(t *testing.T) *releasesAPI {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "rollout.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archive.Files {
		if file.Name != "waiting.yaml" {
			continue
		}
		api, err := newReleasesAPI(file.Data)
		if err != nil {
			t.Fatal(err)
		}
		return api
	}
	t.Fatal("testdata/rollout.txtar has no waiting.yaml")
	return nil
}

// served returns a kubeconfig for what the handler answers.
func served(t *testing.T, handler http.Handler) (kubeconfig string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := writeKubeconfig(kubeconfig, server.URL); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// steered returns the command for a cluster with the release of testdata/rollout.txtar, and that cluster's API
// server.
func steered(t *testing.T) (uiCommand, *releasesAPI) {
	t.Helper()
	api := waitingRelease(t)
	return uiCommand{&console.Console{Out: io.Discard, Err: io.Discard, Program: console.Everynode}, access{&givenCluster{served(t, api)}}}, api
}

// A page can steer the release that it has shown, and no other.
func TestSteer(t *testing.T) {
	a, api := steered(t)
	for _, tc := range []struct {
		act        fleetview.Action
		said, fail string
	}{
		{fleetview.Action{Verb: "pause", Release: 2, Target: "7c9f5b"}, "", "nothing was done: this was about release 2 of 7c9f5b, and it is release 3 of 7c9f5b (revision 12) now"},
		{fleetview.Action{Verb: "pause", Release: 3, Target: "other"}, "", "nothing was done"},
		{fleetview.Action{Verb: "plain", Release: 3, Target: "7c9f5b"}, "", `"plain" is not among what a page may ask for`},
		{fleetview.Action{Verb: "promote", Release: 3, Target: "7c9f5b", Wave: "rest"}, "", "wave rest is not open"},
		{fleetview.Action{Verb: "pause", Release: 3, Target: "7c9f5b"}, "paused: release 3 of 7c9f5b (revision 12) goes to no more nodes until somebody resumes\nPaused:", ""},
		{fleetview.Action{Verb: "resume", Release: 3, Target: "7c9f5b"}, "the pause ends", ""},
		{fleetview.Action{Verb: "promote", Release: 3, Target: "7c9f5b", Wave: "canary/eu-a"}, "wave canary is promoted", ""},
		{fleetview.Action{Verb: "abort", Release: 3, Target: "7c9f5b"}, "aborted", ""},
	} {
		before := api.version
		said, err := a.steer(t.Context(), "monitoring", "agent", tc.act)
		switch {
		case tc.fail != "" && (err == nil || !strings.Contains(err.Error(), tc.fail) || api.version != before):
			t.Errorf("%+v: %q, %v, want %s and nothing written", tc.act, said, err, tc.fail)
		case tc.fail == "" && (err != nil || !strings.Contains(said, tc.said) || api.version == before):
			t.Errorf("%+v: %q, %v, want %s", tc.act, said, err, tc.said)
		}
	}
}

// The command prints the link and serves the page until it is stopped. Others cannot read its recording.
func TestUICommand(t *testing.T) {
	a, _ := steered(t)
	record := filepath.Join(t.TempDir(), "release.fleet")
	out, in := io.Pipe()
	a.Console = &console.Console{Out: in, Err: io.Discard, Program: console.Everynode}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx, &uiFlags{record: record, speed: 1}) }()
	link := ""
	for lines := bufio.NewScanner(out); link == "" && lines.Scan(); {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, "http://127.0.0.1:") {
			link = text
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	address, token, ok := strings.Cut(link, "/#token=")
	if !ok {
		t.Fatalf("the link is %q", link)
	}
	for token, want := range map[string]int{token: http.StatusNotFound, "other": http.StatusUnauthorized} {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/node?name=nobody", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil || r.StatusCode != want {
			t.Errorf("%s, want %d (%v)", r.Status, want, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(record); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the recording: %v, %v", info, err)
	}
	if err := a.run(t.Context(), &uiFlags{record: record, speed: 1}); err == nil || !strings.Contains(err.Error(), "is not written over") {
		t.Errorf("a recording that is there: %v", err)
	}
}

// While nobody looks, nothing is read from the API server and no state is kept.
func TestNobodyLooks(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := writeKubeconfig(kubeconfig, server.URL); err != nil {
		t.Fatal(err)
	}
	cmd := uiCommand{&console.Console{Out: io.Discard, Err: io.Discard, Program: console.Everynode}, access{&givenCluster{kubeconfig}}}
	fleet, err := cmd.liveFleet("")
	if err != nil {
		t.Fatal(err)
	}
	page := ui.New(ui.Options{Source: fleet, Program: console.Everynode}, "token")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- page.Serve(ctx, l) }()
	get := func(path string) *http.Response {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer token")
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, path := range []string{"/", "/app.js", "/v1/node?name=a", "/v1/events?set=a/b", "/v1/log?set=a/b&node=c"} {
		if err := get(path).Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("nobody looks, and the API server was asked %d times", n)
	}
	stream := get("/v1/stream")
	for lines := bufio.NewScanner(stream.Body); lines.Scan() && lines.Text() != "event: failure"; {
	}
	if err := stream.Body.Close(); err != nil || asked.Load() == 0 {
		t.Errorf("somebody looks, and the API server was asked %d times (%v)", asked.Load(), err)
	}
	if _, err := fleet.now(); !errors.Is(err, fleetview.ErrUnknown) {
		t.Errorf("what was seen is kept: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Only the user can read the file that the browser opens. It leads to the page, and an address cannot inject HTML
// into it.
func TestLeadTo(t *testing.T) {
	page := string(leadTo(`http://127.0.0.1:1/#token="><script>`))
	if strings.Contains(page, "<script>") || !strings.Contains(page, `url=http://127.0.0.1:1/#token=&#34;&gt;`) {
		t.Error(page)
	}
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	if closeIt, err := openBrowser("http://127.0.0.1:1/"); err != nil {
		t.Error(errors.Join(errors.New("without a display"), err))
	} else {
		closeIt()
	}
}
