package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
)

// explain says of an error what happened, why, and what to do. what is what was
// tried.
func (c *Client) explain(what string, at Location, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, err)
	}
	var answer minio.ErrorResponse
	reason := ""
	if errors.As(err, &answer) {
		if reason = c.refused(at, answer); reason == "" {
			reason = c.unable(answer)
		}
		err = fmt.Errorf("%w (%s)", err, answer.Code)
	} else {
		reason = c.unreachable(err)
	}
	if reason == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s: %w", what, reason, err)
}

// refused are answers that stay the same until somebody does something.
func (c *Client) refused(at Location, answer minio.ErrorResponse) string {
	switch answer.Code {
	case "NoSuchBucket":
		return fmt.Sprintf("there is no bucket %s at %s; make it there, or correct the name", at.Bucket, c.endpoint)
	case "NoSuchKey":
		return fmt.Sprintf("there is no %s in the bucket %s; `everynode server snapshot list %s` shows what there is", at.Key, at.Bucket, at.Folder())
	case "RequestTimeTooSkewed", "RequestExpired":
		return fmt.Sprintf("this machine's clock says %s, which is too far from the storage's; set the clock (NTP), and try again", time.Now().UTC().Format(time.RFC3339))
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Sprintf("the storage at %s does not know this access key, or the secret does not belong to it; correct the credentials (%s)", c.endpoint, c.credentials)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return fmt.Sprintf("the credentials (%s) were for a time that is over; replace them", c.credentials)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException", "301 Moved Permanently", "307 Temporary Redirect":
		return fmt.Sprintf("the bucket %s is not in the region %s%s; say so with --s3-region, or correct --s3-endpoint", at.Bucket, c.region, inRegion(answer.Region))
	case "InvalidObjectState":
		return "the storage has moved it to an archive; bring it back there first"
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage":
		return "the storage is full, or the bucket has all that it may; delete there what nobody needs, or raise the quota"
	}
	switch answer.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Sprintf("the credentials (%s) do not allow that; they need s3:ListBucket for the bucket %s, and s3:PutObject, s3:GetObject and s3:DeleteObject for what is in it", c.credentials, at.Bucket)
	case http.StatusInsufficientStorage:
		return "the storage is full; delete there what nobody needs, or give it more room"
	}
	return ""
}

func inRegion(region string) string {
	if region == "" {
		return ""
	}
	return ", but in " + region
}

// unable are answers that may be others later.
func (c *Client) unable(answer minio.ErrorResponse) string {
	switch {
	case answer.Code == "BadDigest" || answer.Code == "InvalidDigest" || answer.Code == "XAmzContentSHA256Mismatch" || answer.Code == "IncompleteBody":
		return "what arrived is not what was sent, and nothing was stored; try again"
	case answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Sprintf("the storage at %s has too much to do, or is broken; try again later", c.endpoint)
	case answer.StatusCode != 0:
		return fmt.Sprintf("%s does not answer as S3 storage does; correct --s3-endpoint, or --s3-addressing-style", c.endpoint)
	}
	return ""
}

// unreachable are errors on the way there.
func (c *Client) unreachable(err error) string {
	var name *net.DNSError
	var slow net.Error
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var certificate x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return fmt.Sprintf("the certificate of %s is of an authority that this machine does not know; name the authority's certificate with --s3-ca-file", c.endpoint)
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate of %s is for another name; correct --s3-endpoint, or --s3-addressing-style", c.endpoint)
	case errors.As(err, &certificate):
		return fmt.Sprintf("the certificate of %s is not good; look at it, and at this machine's clock (%s)", c.endpoint, time.Now().UTC().Format(time.RFC3339))
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s has no TLS; correct --s3-endpoint", c.endpoint)
	case errors.As(err, &name):
		return fmt.Sprintf("the name of %s is not known; correct --s3-endpoint or --s3-region, or look at this machine's DNS", c.endpoint)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s; start the storage, or correct --s3-endpoint", c.endpoint)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("%s is too slow, or cannot be reached; look at the network between, and try again", c.endpoint)
	}
	return ""
}
