package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"everynode/internal/datadir"
)

// How the bucket is named in a request.
const (
	AddressingAuto    = "auto" // virtual at Amazon's endpoints, path at others
	AddressingVirtual = "virtual"
	AddressingPath    = "path"
)

// AddressingStyles are the values of Options.AddressingStyle.
func AddressingStyles() []string { return []string{AddressingAuto, AddressingVirtual, AddressingPath} }

// Options say how storage is reached, and with which credentials. They have no secrets.
type Options struct {
	// Endpoint is a URL, https://HOST[:PORT]; default: Amazon's endpoint for Region.
	Endpoint string
	// Region defaults to AWS_REGION, to AWS_DEFAULT_REGION, and to us-east-1 if Endpoint
	// is given: storage that is not Amazon's seldom looks at it.
	Region string
	// CAFile has the CAs that may have signed the endpoint's certificate; default:
	// the system's.
	CAFile string
	// AddressingStyle is one of the constants above; empty is auto.
	AddressingStyle string
	// CredentialsFile has the format of AWS's shared credentials file, and only its owner
	// may read it; default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file
	// that AWS_SHARED_CREDENTIALS_FILE names. AWS_PROFILE chooses among its sections.
	CredentialsFile string
	// Insecure allows an endpoint without TLS that is not on this machine.
	Insecure bool
}

// New makes a client. It reads the credentials, and does not connect to the storage yet.
func New(o Options) (*Client, error) { return newClient(o, silence, tries) }

func newClient(o Options, silence time.Duration, tries int) (*Client, error) {
	endpoint, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	lookup, err := o.lookup()
	if err != nil {
		return nil, err
	}
	creds, from, err := o.credentials()
	if err != nil {
		return nil, err
	}
	transport, err := o.transport(silence)
	if err != nil {
		return nil, err
	}
	api, err := minio.New(endpoint.Host, &minio.Options{
		Creds: creds, Secure: endpoint.Scheme == "https", Transport: transport, Region: o.region(), BucketLookup: lookup, MaxRetries: tries,
	})
	if err != nil {
		return nil, fmt.Errorf("--s3-endpoint %s: %w", endpoint, err)
	}
	return &Client{api: minio.Core{Client: api}, endpoint: endpoint.String(), region: o.region(), credentials: from, partSize: partSize}, nil
}

// endpoint returns the URL of the storage.
func (o Options) endpoint() (*url.URL, error) {
	if o.Endpoint == "" {
		if o.region() == "" {
			return nil, errors.New("neither the storage's endpoint nor an Amazon region is set: give --s3-endpoint https://..., or --s3-region")
		}
		return &url.URL{Scheme: "https", Host: "s3." + o.region() + ".amazonaws.com"}, nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("--s3-endpoint is not https://HOST or https://HOST:PORT") // it may have a secret in it
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("--s3-endpoint has more than a host and a port: give %s://%s; the bucket belongs in s3://BUCKET/FOLDER, credentials in a file or the environment", u.Scheme, u.Host)
	case u.Scheme == "http" && !o.Insecure && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("--s3-endpoint %s has no TLS, so anyone on the way can read and change what goes there: give an https URL (--s3-ca-file if its certificate is signed by your own CA), or give --s3-insecure", o.Endpoint)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (o Options) region() string {
	for _, region := range []string{o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if region != "" {
			return region
		}
	}
	if o.Endpoint != "" {
		return "us-east-1"
	}
	return ""
}

func (o Options) lookup() (minio.BucketLookupType, error) {
	switch o.AddressingStyle {
	case "", AddressingAuto:
		return minio.BucketLookupAuto, nil
	case AddressingVirtual:
		return minio.BucketLookupDNS, nil
	case AddressingPath:
		return minio.BucketLookupPath, nil
	}
	return 0, fmt.Errorf("--s3-addressing-style %q: give one of %s", o.AddressingStyle, strings.Join(AddressingStyles(), ", "))
}

// credentials reads them once: a client lives as long as one task. from says where
// they come from, for people.
func (o Options) credentials() (creds *credentials.Credentials, from string, err error) {
	file := o.CredentialsFile
	if file == "" {
		id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
		switch {
		case id != "" && secret != "":
			return credentials.NewStaticV4(id, secret, os.Getenv("AWS_SESSION_TOKEN")), "AWS_ACCESS_KEY_ID in the environment", nil
		case id != "" || secret != "":
			return nil, "", errors.New("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set: set both")
		}
		file = os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	}
	if file == "" {
		return nil, "", errors.New("there are no credentials for the storage: name a file in the format of AWS's shared credentials with --s3-credentials-file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	value, err := readCredentials(file)
	if err != nil {
		return nil, "", err
	}
	return credentials.NewStaticV4(value.AccessKeyID, value.SecretAccessKey, value.SessionToken), file, nil
}

// readCredentials returns errors that quote nothing from the file.
func readCredentials(file string) (credentials.Value, error) {
	if err := datadir.CheckSecret(file); err != nil {
		return credentials.Value{}, fmt.Errorf("the credentials for the storage: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("the credentials for the storage: %w", err)
	}
	if err := f.Close(); err != nil {
		return credentials.Value{}, fmt.Errorf("the credentials for the storage: %w", err)
	}
	profile := os.Getenv("AWS_PROFILE")
	if profile == "" {
		profile = "default"
	}
	value, err := credentials.NewFileAWSCredentials(file, profile).GetWithContext(nil)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) || errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return value, fmt.Errorf("the credential_process in %s failed: %w", file, err)
	case err != nil || value.AccessKeyID == "" || value.SecretAccessKey == "":
		return value, fmt.Errorf("%s has no credentials under [%s]: it needs the lines aws_access_key_id = ... and aws_secret_access_key = ... below it", file, profile)
	}
	return value, nil
}
