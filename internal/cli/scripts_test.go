package cli

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/cli/localcluster"
	"everynode/internal/datadir"
	"everynode/internal/fleet"
	"everynode/internal/local"
)

// TestMain lets scripts run this program as everynode and as kubectl.
func TestMain(m *testing.M) {
	run := func() { os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"everynode": run, "kubectl": run})
}

// TestScripts runs the scripts that need neither root nor a running cluster:
// testdata/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("EVERYNODE_DATA_DIR", filepath.Join(e.WorkDir, "data"))
			return os.Mkdir(e.Getenv("HOME"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// stopped-cluster FOLDER: make a cluster on loopback that does not run,
			// and let something else listen where its API server was.
			"stopped-cluster": stoppedCluster,
			// running-cluster FOLDER: make a cluster with node-1 and sim-1 that seems to run.
			"running-cluster": runningCluster,
			// server-folder FOLDER: make the folder of a server that does not run.
			"server-folder": serverFolder,
			// exits CODE PROGRAM ARGS...: run a program that must end with this code.
			"exits": exits,
			// holds-lock FILE: the script's own process holds the lock until the
			// script ends.
			"holds-lock": holdsLock,
		},
	})
}

func stoppedCluster(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	address := stranger(ts)
	_, err := local.Create(dir, local.Options{Loopback: true, APIPort: address.Port})
	ts.Check(err)
	writeKubeconfig(ts, dir, address.Port)
}

// runningCluster serves what shells ask for names. A third node is on another machine.
func runningCluster(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/nodes":
			fmt.Fprintf(w, `{"kind": "NodeList", "apiVersion": "v1", "items": [{"metadata": {"name": "node-1"}}, {"metadata": {"name": "rack7-1"}},
				{"metadata": {"name": "sim-1", "labels": {%q: "true"}}}]}`, fleet.LabelSimulated)
		case "/api/v1/namespaces/kube-system/secrets":
			fmt.Fprint(w, `{"kind": "SecretList", "apiVersion": "v1", "items": [{"data": {"token-id": "YWJjZGVm"}}, {"data": {"token-id": "Z2hpamts"}}]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	ts.Defer(api.Close)
	ts.Check(os.MkdirAll(dir, 0o700))
	port := api.Listener.Addr().(*net.TCPAddr).Port
	c, err := local.Create(dir, local.Options{APIPort: port})
	ts.Check(err)
	_, err = c.AddNode("node-1", local.Size{})
	ts.Check(errors.Join(err, c.Save()))
	writeKubeconfig(ts, dir, port)
	text, err := os.ReadFile(localcluster.AdminKubeconfig(dir))
	ts.Check(err)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	text = regexp.MustCompile(`certificate-authority-data: [^}]*`).ReplaceAll(text, []byte("certificate-authority-data: "+ca))
	ts.Check(os.WriteFile(localcluster.AdminKubeconfig(dir), text, 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "simulate.json"), []byte("{}"), 0o600))
	holdsLock(ts, false, []string{filepath.Join(args[0], "server.lock")})
}

func serverFolder(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Join(dir, "pki"), 0o700))
	writeKubeconfig(ts, dir, stranger(ts).Port)
}

// stranger listens, and fails the script if anybody connects.
func stranger(ts *testscript.TestScript) *net.TCPAddr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	asked := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = errors.Join(errors.New("a stranger was asked in place of the cluster that does not run"), c.Close())
		}
		asked <- err
	}()
	ts.Defer(func() {
		if err := l.Close(); err != nil {
			ts.Fatalf("%v", err)
		}
		if err := <-asked; !errors.Is(err, net.ErrClosed) {
			ts.Fatalf("%v", err)
		}
	})
	return l.Addr().(*net.TCPAddr)
}

func writeKubeconfig(ts *testscript.TestScript, dir string, port int) {
	cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	ts.Check(err)
	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: everynode
  cluster: {server: "https://127.0.0.1:%d", certificate-authority-data: %s}
users:
- name: admin
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: everynode
  context: {cluster: everynode, user: admin}
current-context: everynode
`, port, encode(cert), encode(cert), encode(key))
	ts.Check(os.WriteFile(localcluster.AdminKubeconfig(dir), []byte(text), 0o600))
}

func holdsLock(ts *testscript.TestScript, _ bool, args []string) {
	release, err := datadir.Lock(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() {
		if err := release(); err != nil {
			ts.Fatalf("%v", err)
		}
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("%v, want exit code %s", err, args[0])
	}
}
