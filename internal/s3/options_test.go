package s3

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"everynode/internal/s3/s3test"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Location{
		"s3://backup":            {"backup", ""},
		"s3://backup/":           {"backup", ""},
		"s3://my.backup-1/a/b":   {"my.backup-1", "a/b"},
		"s3://backup/a b/ü.tar":  {"backup", "a b/ü.tar"},
		"s3://backup/cluster-1/": {"backup", "cluster-1"},
	} {
		got, err := ParseURL(text)
		if err != nil || got != want || got.String() != strings.TrimSuffix(text, "/") {
			t.Errorf("%s: %+v (%s), %v", text, got, got, err)
		}
	}
	for text, want := range map[string]string{
		"/backup":            "is not a place in S3 storage",
		"s3://":              "names no bucket",
		"s3://Backup":        "names no bucket",
		"s3://b/a":           "names no bucket",
		"s3://ID:s3cr3t@b/a": "without credentials",
		"s3://backup//a":     "no part of the name",
		"s3://backup/../a":   "no part of the name",
		"s3://backup/a//b":   "no part of the name",
		"s3://backup/a\nb":   "control characters",
	} {
		_, err := ParseURL(text)
		wantError(t, err, want)
	}
	if got := at("a/b").Folder(); got != at("a") {
		t.Errorf("the folder of a/b is %s", got)
	}
	if got := at("a").Folder(); got != at("") || got.Join("b") != at("b") {
		t.Errorf("the folder of a is %s", got)
	}
}

// noEnvironment clears what the environment says of storage.
func noEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
}

func TestEndpoints(t *testing.T) {
	noEnvironment(t)
	credentials := s3test.Credentials(t)
	for endpoint, want := range map[string]string{
		"https://minio.example.com:9000/": "https://minio.example.com:9000",
		"http://127.0.0.1:9000":           "http://127.0.0.1:9000",
		"http://[::1]:9000":               "http://[::1]:9000",
		"http://localhost:9000":           "http://localhost:9000",
		"":                                "https://s3.eu-central-1.amazonaws.com",
	} {
		c, err := New(Options{Endpoint: endpoint, Region: "eu-central-1", CredentialsFile: credentials})
		if err != nil || c.endpoint != want {
			t.Errorf("%q: %+v, %v", endpoint, c, err)
		}
	}
	if c, err := New(Options{Endpoint: "http://192.0.2.1:9000", CredentialsFile: credentials, Insecure: true}); err != nil || c.region != "us-east-1" {
		t.Errorf("--s3-insecure: %+v, %v", c, err)
	}
	notCA, open := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "open")
	write(t, notCA, "no certificate", 0o600)
	write(t, open, "", 0o666)
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{}, "give --s3-endpoint https://..., or --s3-region"},
		{Options{Endpoint: "minio.example.com"}, "is not https://HOST"},
		{Options{Endpoint: "ftp://minio.example.com"}, "is not https://HOST"},
		{Options{Endpoint: "https://ID:s3cr3t@minio.example.com"}, "credentials in a file or the environment"},
		{Options{Endpoint: "https://s3cr3t:%zz"}, "is not https://HOST"},
		{Options{Endpoint: "https://minio.example.com/backup"}, "the bucket belongs in s3://BUCKET/FOLDER"},
		{Options{Endpoint: "http://192.0.2.1:9000"}, "has no TLS, so anyone on the way"},
		{Options{Endpoint: "http://localhost.example.com"}, "has no TLS"},
		{Options{Endpoint: "https://a", AddressingStyle: "host"}, "give one of auto, virtual, path"},
		{Options{Endpoint: "https://a", CAFile: notCA}, "has no certificate in PEM format"},
		{Options{Endpoint: "https://a", CAFile: "missing"}, "--s3-ca-file: stat missing"},
		{Options{Endpoint: "https://a", CAFile: open}, "chmod go-w"},
	} {
		tc.o.CredentialsFile = credentials
		_, err := New(tc.o)
		wantError(t, err, tc.want)
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestCredentials(t *testing.T) {
	noEnvironment(t)
	file := filepath.Join(t.TempDir(), "credentials")
	o := Options{Endpoint: "https://a"}
	refuse := func(want string) {
		t.Helper()
		_, err := New(o)
		wantError(t, err, want)
	}
	accept := func(id, secret string) {
		t.Helper()
		creds, from, err := o.credentials()
		if err != nil {
			t.Fatal(err)
		}
		if value, err := creds.GetWithContext(nil); err != nil || value.AccessKeyID != id || value.SecretAccessKey != secret || from == "" {
			t.Errorf("from %s: %+v, %v", from, value, err)
		}
	}
	refuse("there are no credentials for the storage: name a file")
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	refuse("is set: set both")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
	accept("ENV", "s3cr3t")

	o.CredentialsFile = file // wins
	refuse("no such file")
	write(t, file, "[default]\naws_access_key_id = ID\naws_secret_access_key = s3cr3t\n[other]\naws_access_key_id = OTHER\naws_secret_access_key = s3cr3t2\n", 0o600)
	accept("ID", "s3cr3t")
	t.Setenv("AWS_PROFILE", "other")
	accept("OTHER", "s3cr3t2")
	t.Setenv("AWS_PROFILE", "third")
	refuse("has no credentials under [third]")
	t.Setenv("AWS_PROFILE", "")
	write(t, file, "ID s3cr3t\n", 0o600)
	refuse("has no credentials under [default]: it needs the lines aws_access_key_id = ...")
	write(t, file, "[default]\naws_access_key_id = ID\n", 0o600)
	refuse("has no credentials under [default]")
	write(t, file, "[default]\ncredential_process = /missing/program s3cr3t\n", 0o600)
	refuse("the credential_process in " + file + " failed")
	write(t, file, "", 0o640)
	refuse("chmod 600 " + file)

	o.CredentialsFile = ""
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	write(t, file, "[default]\naws_access_key_id = ID\naws_secret_access_key = s3cr3t\n", 0o600)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	accept("ID", "s3cr3t")
}
