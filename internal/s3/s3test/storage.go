// Package s3test is S3 storage for tests: gofakes3 in this process, on loopback, with
// faults in front of it.
package s3test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Fault answers a request in the storage's place, or changes it and passes it on.
type Fault func(w http.ResponseWriter, r *http.Request, storage http.Handler)

// Storage is a server that has one bucket, Bucket. It accepts any credentials.
type Storage struct {
	URL    string
	CAFile string // the CA of its certificate; empty: it has none
	fault  atomic.Pointer[Fault]
}

// Bucket exists from the start.
const Bucket = "backup"

// Start makes storage that ends with the test.
func Start(t testing.TB, options ...gofakes3.Option) *Storage { return start(t, false, options) }

// StartTLS makes one with a certificate, for 127.0.0.1.
func StartTLS(t testing.TB, options ...gofakes3.Option) *Storage { return start(t, true, options) }

func start(t testing.TB, secure bool, options []gofakes3.Option) *Storage {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(Bucket); err != nil {
		t.Fatal(err)
	}
	storage, s := gofakes3.New(backend, options...).Server(), &Storage{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := s.fault.Load(); fault != nil {
			(*fault)(w, r, storage)
			return
		}
		storage.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	if secure {
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		server.StartTLS()
		s.CAFile = writeCA(t, server.Certificate().Raw)
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func writeCA(t testing.TB, certificate []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Break puts a fault in front of the storage; nil: none.
func (s *Storage) Break(fault Fault) {
	if fault == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&fault)
}

// Refuse answers all requests as S3 does when it cannot do what it was asked.
func Refuse(status int, code string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte("<Error><Code>" + code + "</Code><Message>no</Message></Error>")) // the client may have gone
		}
	}
}

// Credentials writes a file of credentials that storage of this package accepts.
func Credentials(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = ID\naws_secret_access_key = s3cr3t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
