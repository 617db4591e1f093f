package e2e_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"
)

// s3Storage starts S3-compatible storage on loopback that has the bucket "backup".
func s3Storage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: s3-storage NAME CREDENTIALS CA")
	}
	backend := s3mem.New()
	ts.Check(backend.CreateBucket("backup"))
	server := httptest.NewTLSServer(gofakes3.New(backend).Server())
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte("[default]\naws_access_key_id = ID\naws_secret_access_key = s3cr3t\n"), 0o600))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), ca, 0o600))
}
