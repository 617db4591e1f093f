// Package s3 keeps files in storage that speaks the protocol of Amazon's S3. A file
// is stored whole or not at all, and what comes back is what was sent.
package s3

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// scheme begins the URL of a place in storage.
const scheme = "s3://"

// Location is a place in storage: a bucket, and in it the key of an object or a folder
// of several. A folder is the part before a slash that their keys begin with.
type Location struct {
	Bucket string
	// Key has no slash at its ends. Empty: the bucket itself.
	Key string
}

// bucketName matches the names that S3 allows.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// IsURL reports whether text names a place in storage, and not a file.
func IsURL(text string) bool { return strings.HasPrefix(text, scheme) }

// ParseURL reads s3://BUCKET/KEY.
func ParseURL(text string) (Location, error) {
	if !IsURL(text) {
		return Location{}, fmt.Errorf("%q is not a place in S3 storage: give s3://BUCKET/FOLDER", text)
	}
	if strings.Contains(text, "@") { // not shown: there may be a secret before it
		return Location{}, errors.New("a place in S3 storage is s3://BUCKET/FOLDER, without credentials: those belong in a file (--s3-credentials-file) or the environment")
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(text, scheme), "/")
	if !bucketName.MatchString(bucket) {
		return Location{}, fmt.Errorf("%q names no bucket: give s3://BUCKET/FOLDER; the name of a bucket has 3 to 63 lower case letters, digits, dots and hyphens", text)
	}
	key = strings.TrimSuffix(key, "/")
	if key != "" && (path.Clean("/"+key) != "/"+key || strings.ContainsFunc(key, isControl)) {
		return Location{}, fmt.Errorf("%q: no part of the name in the bucket may be empty, . or .., or have control characters", text)
	}
	return Location{bucket, key}, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Join returns the place of a name in the folder l.
func (l Location) Join(name string) Location {
	return Location{l.Bucket, path.Join(l.Key, name)}
}

// Folder returns the folder that l is in.
func (l Location) Folder() Location {
	folder := path.Dir(l.Key)
	if folder == "." {
		folder = ""
	}
	return Location{l.Bucket, folder}
}

// Name returns the last part of the key.
func (l Location) Name() string { return path.Base(l.Key) }

// String returns the URL.
func (l Location) String() string {
	if l.Key == "" {
		return scheme + l.Bucket
	}
	return scheme + l.Bucket + "/" + l.Key
}
