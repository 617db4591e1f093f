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

// explain adds to an error what happened, why, and what to do. what is the action that
// failed.
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

// refused explains answers that stay the same until somebody does something; "" for others.
func (c *Client) refused(at Location, answer minio.ErrorResponse) string {
	switch answer.Code {
	case "NoSuchBucket":
		return fmt.Sprintf("there is no bucket %s at %s; create it there, or correct the name", at.Bucket, c.endpoint)
	case "NoSuchKey":
		return fmt.Sprintf("there is no %s in the bucket %s; `everynode server snapshot list %s` shows the existing ones", at.Key, at.Bucket, at.Folder())
	case "RequestTimeTooSkewed", "RequestExpired":
		return fmt.Sprintf("this machine's clock says %s, which is too far from the storage's; set the clock (NTP), and try again", time.Now().UTC().Format(time.RFC3339))
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Sprintf("the storage at %s does not know this access key, or its secret is wrong; correct the credentials (%s)", c.endpoint, c.credentials)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return fmt.Sprintf("the credentials (%s) have expired; replace them", c.credentials)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException", "301 Moved Permanently", "307 Temporary Redirect":
		return fmt.Sprintf("the bucket %s is not in the region %s%s; give its region with --s3-region, or correct --s3-endpoint", at.Bucket, c.region, inRegion(answer.Region))
	case "InvalidObjectState":
		return "the storage has moved it to an archive; restore it there first"
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage":
		return "the storage is full, or the bucket has reached its quota; delete what nobody needs there, or raise the quota"
	}
	switch answer.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Sprintf("the credentials (%s) do not allow that; they need s3:ListBucket for the bucket %s, and s3:PutObject, s3:GetObject and s3:DeleteObject for what is in it", c.credentials, at.Bucket)
	case http.StatusInsufficientStorage:
		return "the storage is full; delete what nobody needs there, or give it more space"
	}
	return ""
}

func inRegion(region string) string {
	if region == "" {
		return ""
	}
	return ", but in " + region
}

// unable explains answers that may be different later; "" for others.
func (c *Client) unable(answer minio.ErrorResponse) string {
	switch {
	case answer.Code == "BadDigest" || answer.Code == "InvalidDigest" || answer.Code == "XAmzContentSHA256Mismatch" || answer.Code == "IncompleteBody":
		return "what arrived is not what was sent, and nothing was stored; try again"
	case answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Sprintf("the storage at %s is overloaded or broken; try again later", c.endpoint)
	case answer.StatusCode != 0:
		return fmt.Sprintf("%s does not answer like S3 storage; correct --s3-endpoint, or --s3-addressing-style", c.endpoint)
	}
	return ""
}

// unreachable explains errors on the way to the storage; "" for others.
func (c *Client) unreachable(err error) string {
	var name *net.DNSError
	var slow net.Error
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var certificate x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return fmt.Sprintf("the certificate of %s is signed by a CA that this machine does not know; name the CA's certificate with --s3-ca-file", c.endpoint)
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate of %s is for another name; correct --s3-endpoint, or --s3-addressing-style", c.endpoint)
	case errors.As(err, &certificate):
		return fmt.Sprintf("the certificate of %s is not valid; check it, and this machine's clock (%s)", c.endpoint, time.Now().UTC().Format(time.RFC3339))
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s has no TLS; correct --s3-endpoint", c.endpoint)
	case errors.As(err, &name):
		return fmt.Sprintf("the name of %s cannot be resolved; correct --s3-endpoint or --s3-region, or check this machine's DNS", c.endpoint)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s; start the storage, or correct --s3-endpoint", c.endpoint)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("%s is too slow, or cannot be reached; check the network in between, and try again", c.endpoint)
	}
	return ""
}
