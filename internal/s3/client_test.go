package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"

	"everynode/internal/s3/s3test"
)

// smallPart is the smallest part that S3 accepts, in bytes.
const smallPart = 5 << 20

// quick is how long a connection may stand still in tests of what is slow.
const quick = time.Second

func clientOf(t *testing.T, s *s3test.Storage) *Client {
	t.Helper()
	c, err := newClient(Options{Endpoint: s.URL, CAFile: s.CAFile, CredentialsFile: s3test.Credentials(t)}, silence, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.partSize = smallPart
	return c
}

func at(key string) Location { return Location{s3test.Bucket, key} }

// file makes a file of size random bytes.
func file(t *testing.T, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	_, _ = rand.Read(content) // never fails
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("the error is %q, want %q", err, want)
	case strings.Contains(err.Error(), "s3cr3t"):
		t.Errorf("the error shows the secret: %q", err)
	}
}

func names(t *testing.T, c *Client, folder string) (all []string) {
	t.Helper()
	objects, err := c.List(t.Context(), at(folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		all = append(all, o.Name)
	}
	return all
}

// TestRoundTrip: what is uploaded is listed, found, and comes back, with TLS and
// without, in one piece and in several.
func TestRoundTrip(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...gofakes3.Option) *s3test.Storage{"plain": s3test.Start, "TLS": s3test.StartTLS} {
		t.Run(name, func(t *testing.T) {
			c := clientOf(t, start(t))
			sizes := []int{1, 1000}
			if c.endpoint[:5] == "https" { // gofakes3 takes no parts that are signed in chunks
				sizes = append(sizes, 2*smallPart+1)
			}
			for _, size := range sizes {
				path, content := file(t, size)
				key := at("a/b.tar")
				if err := c.Upload(t.Context(), path, key); err != nil {
					t.Fatal(err)
				}
				if found, err := c.Find(t.Context(), key); err != nil || found == nil || found.Size != int64(size) || time.Since(found.Time).Abs() > time.Hour {
					t.Fatalf("found: %+v, %v", found, err)
				}
				back := filepath.Join(t.TempDir(), "back")
				if err := c.Download(t.Context(), key, back); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes came back as %d others, %v", size, len(got), err)
				}
				if info, err := os.Stat(back); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the file has the mode %v, %v", info.Mode(), err)
				}
			}
			if err := c.Delete(t.Context(), at("a/b.tar")); err != nil {
				t.Fatal(err)
			}
			if found, err := c.Find(t.Context(), at("a/b.tar")); err != nil || found != nil {
				t.Errorf("after its deletion: %+v, %v", found, err)
			}
		})
	}
}

// TestList: folders in a folder are not files in it, and neither is an object whose
// key only begins with the folder's name.
func TestList(t *testing.T) {
	c := clientOf(t, s3test.Start(t))
	path, _ := file(t, 10)
	for _, key := range []string{"a/1", "a/2", "a/b/3", "ab/4", "5"} {
		if err := c.Upload(t.Context(), path, at(key)); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, c, "a"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("in a: %q", got)
	}
	if got := names(t, c, ""); !slices.Equal(got, []string{"5"}) {
		t.Errorf("in the bucket: %q", got)
	}
	if found, err := c.Find(t.Context(), at("a")); err != nil || found != nil {
		t.Errorf("the folder a is taken for an object: %+v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.List(ctx, at("a")); err == nil {
		t.Error("a list that was interrupted passes for a whole one")
	}
}

// TestRefused: the error for each answer of the storage says what to do, and no object is left.
func TestRefused(t *testing.T) {
	s := s3test.Start(t)
	c := clientOf(t, s)
	path, _ := file(t, 1000)
	for _, tc := range []struct {
		status     int
		code, want string
	}{
		{403, "AccessDenied", "do not allow that; they need s3:ListBucket for the bucket backup"},
		{403, "InvalidAccessKeyId", "does not know this access key, or its secret is wrong; correct the credentials (" + c.credentials + ")"},
		{403, "SignatureDoesNotMatch", "correct the credentials"},
		{400, "ExpiredToken", "have expired"},
		{403, "RequestTimeTooSkewed", "this machine's clock says 20"},
		{301, "PermanentRedirect", "is not in the region us-east-1; give its region with --s3-region"},
		{507, "XMinioStorageFull", "the storage is full"},
		{507, "Other", "the storage is full"},
		{403, "QuotaExceeded", "the bucket has reached its quota"},
		{503, "SlowDown", "is overloaded or broken; try again later"},
		{500, "InternalError", "broken; try again later"},
		{400, "BadDigest", "what arrived is not what was sent"},
		{405, "MethodNotAllowed", "does not answer like S3 storage; correct --s3-endpoint"},
		{404, "NoSuchBucket", "there is no bucket backup at " + s.URL},
	} {
		s.Break(s3test.Refuse(tc.status, tc.code))
		err := c.Upload(t.Context(), path, at("a"))
		wantError(t, err, "upload to s3://backup/a: ")
		wantError(t, err, tc.want)
		wantError(t, err, tc.code)
		_, err = c.List(t.Context(), at(""))
		wantError(t, err, tc.want)
	}
	s.Break(nil)
	if got := names(t, c, ""); len(got) != 0 {
		t.Errorf("in the bucket: %q", got)
	}
	err := c.Upload(t.Context(), path, Location{"missing", "a"})
	wantError(t, err, "there is no bucket missing")
	err = c.Download(t.Context(), at("backup/missing"), filepath.Join(t.TempDir(), "a"))
	wantError(t, err, "there is no backup/missing in the bucket backup; `everynode server snapshot list s3://backup/backup` shows")
}

// TestClock: the error says so if the storage's clock shows another time.
func TestClock(t *testing.T) {
	c := clientOf(t, s3test.Start(t, gofakes3.WithTimeSource(gofakes3.FixedTimeSource(time.Now().Add(-time.Hour)))))
	path, _ := file(t, 1000)
	wantError(t, c.Upload(t.Context(), path, at("a")), "set the clock (NTP), and try again")
	_, err := c.Find(t.Context(), at("a"))
	wantError(t, err, "set the clock")
}

// TestBusyOnce: a request is repeated if the storage was only busy.
func TestBusyOnce(t *testing.T) {
	s := s3test.Start(t)
	c, err := newClient(Options{Endpoint: s.URL, CredentialsFile: s3test.Credentials(t)}, silence, 2)
	if err != nil {
		t.Fatal(err)
	}
	first := true
	s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		if first {
			first = false
			s3test.Refuse(503, "SlowDown")(w, r, storage)
			return
		}
		storage.ServeHTTP(w, r)
	})
	path, _ := file(t, 1000)
	if err := c.Upload(t.Context(), path, at("a")); err != nil || first {
		t.Errorf("the second try: %v", err)
	}
}

// flip changes a byte of a body on its way.
type flip struct {
	io.ReadCloser
	done bool
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 && !f.done {
		f.done = true
		p[n-1] ^= 1
	}
	return n, err
}

// TestDigest: what was changed on the way is not stored.
func TestDigest(t *testing.T) {
	s := s3test.StartTLS(t) // without TLS each chunk is signed, too
	c := clientOf(t, s)
	path, _ := file(t, 1000)
	s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		r.Body = &flip{ReadCloser: r.Body}
		storage.ServeHTTP(w, r)
	})
	wantError(t, c.Upload(t.Context(), path, at("a")), "what arrived is not what was sent, and nothing was stored")
	s.Break(nil)
	if got := names(t, c, ""); len(got) != 0 {
		t.Errorf("in the bucket: %q", got)
	}
}

// TestVerify: Upload notices if a storage keeps less than it says, and removes what it
// keeps.
func TestVerify(t *testing.T) {
	s := s3test.StartTLS(t)
	c := clientOf(t, s)
	path, content := file(t, 1000)
	s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		if r.Method == http.MethodPut {
			r.Body = io.NopCloser(bytes.NewReader(content[:500]))
			r.Header.Set("Content-Length", "500")
			r.Header.Del("Content-Md5")
		}
		storage.ServeHTTP(w, r)
	})
	wantError(t, c.Upload(t.Context(), path, at("a")), "s3://backup/a is not what was uploaded: the storage has 500 bytes")
	s.Break(nil)
	if got := names(t, c, ""); len(got) != 0 {
		t.Errorf("in the bucket: %q", got)
	}
}

// bad is a ResponseWriter that changes or cuts what a storage answers.
type bad struct {
	http.ResponseWriter
	write func(p []byte) []byte
}

func (b bad) Write(p []byte) (int, error) {
	if _, err := b.ResponseWriter.Write(b.write(bytes.Clone(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TestDownloadDamaged: a download fails if it was changed on the way, or ends early.
func TestDownloadDamaged(t *testing.T) {
	s := s3test.Start(t)
	c := clientOf(t, s)
	path, _ := file(t, 1000)
	if err := c.Upload(t.Context(), path, at("a")); err != nil {
		t.Fatal(err)
	}
	for want, write := range map[string]func(p []byte) []byte{
		"s3://backup/a is not what was uploaded: its SHA-256 was": func(p []byte) []byte { p[0] ^= 1; return p },
		"download s3://backup/a: only 500 of 1000 bytes arrived":  func(p []byte) []byte { return p[:500] },
	} {
		s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
			storage.ServeHTTP(bad{w, write}, r)
		})
		wantError(t, c.Download(t.Context(), at("a"), filepath.Join(t.TempDir(), "a")), want)
	}
}

// TestInterrupted: an upload that is interrupted leaves neither an object nor parts.
func TestInterrupted(t *testing.T) {
	s := s3test.StartTLS(t) // gofakes3 takes no parts that are signed in chunks
	c := clientOf(t, s)
	path, _ := file(t, 2*smallPart+1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		if r.URL.Query().Get("partNumber") == "2" {
			cancel()
		}
		storage.ServeHTTP(w, r)
	})
	if err := c.Upload(ctx, path, at("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	s.Break(nil)
	if got := names(t, c, ""); len(got) != 0 {
		t.Errorf("in the bucket: %q", got)
	}
	for part := range c.api.ListIncompleteUploads(t.Context(), s3test.Bucket, "", true) {
		t.Errorf("left: %+v", part)
	}
}

// TestSlow: a request is given up if nothing moves for a while, but not if it is only slow.
func TestSlow(t *testing.T) {
	s := s3test.Start(t)
	c, err := newClient(Options{Endpoint: s.URL, CredentialsFile: s3test.Credentials(t)}, quick, 1)
	if err != nil {
		t.Fatal(err)
	}
	path, _ := file(t, 1000)
	if err := c.Upload(t.Context(), path, at("a")); err != nil {
		t.Fatal(err)
	}
	given := make(chan struct{})
	s.Break(func(http.ResponseWriter, *http.Request, http.Handler) { <-given })
	wantError(t, c.Upload(t.Context(), path, at("b")), "is too slow, or cannot be reached")
	close(given)
	s.Break(func(w http.ResponseWriter, r *http.Request, storage http.Handler) {
		storage.ServeHTTP(bad{w, func(p []byte) []byte {
			for len(p) > 100 {
				_, _ = w.Write(p[:100]) // the client may have gone
				p = p[100:]
				_ = http.NewResponseController(w).Flush()
				<-time.After(quick / 8)
			}
			return p
		}}, r)
	})
	if err := c.Download(t.Context(), at("a"), filepath.Join(t.TempDir(), "a")); err != nil {
		t.Errorf("a slow download: %v", err)
	}
}

// TestUnreachable: errors on the way to the storage say what is wrong.
func TestUnreachable(t *testing.T) {
	secure, plain := s3test.StartTLS(t), s3test.Start(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	credentials := s3test.Credentials(t)
	for want, o := range map[string]Options{
		"signed by a CA that this machine does not know; name the CA's certificate with --s3-ca-file": {Endpoint: secure.URL},
		"is for another name; correct --s3-endpoint":                                                  {Endpoint: strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), CAFile: secure.CAFile},
		"has no TLS; correct --s3-endpoint":                                                           {Endpoint: strings.Replace(plain.URL, "http:", "https:", 1)},
		"nothing listens at " + closed.URL:                                                            {Endpoint: closed.URL},
	} {
		o.CredentialsFile = credentials
		c, err := newClient(o, silence, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.List(t.Context(), at(""))
		wantError(t, err, want)
	}
	c := &Client{endpoint: "https://gone.example.com"}
	wantError(t, c.explain("list", at(""), &url.Error{Op: "Get", URL: c.endpoint, Err: &net.DNSError{Err: "no such host", Name: "gone.example.com"}}),
		"the name of https://gone.example.com cannot be resolved")
	wantError(t, c.explain("list", at(""), &url.Error{Op: "Get", URL: c.endpoint, Err: x509.CertificateInvalidError{Reason: x509.Expired}}),
		"check it, and this machine's clock (20")
}
