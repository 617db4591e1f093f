package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// sumKey is the key of an object's SHA-256 in its metadata.
	sumKey = "Sha256"
	// partSize is the size, in bytes, of the parts in which a large file is sent, one after the
	// other. Each part is in memory while it is sent.
	partSize = 16 << 20
	// cleanTime bounds the removal of what an upload left behind.
	cleanTime = 10 * time.Second
)

// Client reads and writes storage with one set of credentials.
type Client struct {
	api         minio.Core
	endpoint    string
	region      string
	credentials string // where they come from, for people
	partSize    int64
}

// Object is a file in storage.
type Object struct {
	Name string // the last part of its key
	Size int64  // in bytes
	Time time.Time
}

// Upload sends a file. The object appears when all of it has arrived, and then its
// size and sum are compared with the file's. It replaces an object that has the same
// key.
func (c *Client) Upload(ctx context.Context, file string, to Location) error {
	sum, size, err := hashFile(file)
	if err != nil {
		return err
	}
	_, err = c.api.FPutObject(ctx, to.Bucket, to.Key, file, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: uint64(c.partSize), UserMetadata: map[string]string{sumKey: sum},
		SendContentMd5: true, // the storage refuses what was changed on the way
	})
	if err != nil {
		return errors.Join(c.explain("upload to "+to.String(), to, err), c.clean(ctx, to, size))
	}
	return c.verify(ctx, to, size, sum)
}

// hashFile returns the SHA-256 of a file, in hex, and its size.
func hashFile(file string) (sum string, size int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", 0, fmt.Errorf("read the file to upload: %w", err)
	}
	hash := sha256.New()
	size, err = io.Copy(hash, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, fmt.Errorf("read the file to upload: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// clean removes the parts of an upload that failed: nobody sees them, and they cost
// money. MinIO's client removes them itself unless ctx has ended.
func (c *Client) clean(ctx context.Context, to Location, size int64) error {
	if size <= c.partSize || ctx.Err() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	if err := c.api.RemoveIncompleteUpload(ctx, to.Bucket, to.Key); err != nil {
		return c.explain("remove the parts of "+to.String()+" that had arrived, which cost money", to, err)
	}
	return nil
}

// verify asks the storage what it has, and removes the object if that is not what was sent.
func (c *Client) verify(ctx context.Context, at Location, size int64, sum string) error {
	has, err := c.api.StatObject(ctx, at.Bucket, at.Key, minio.StatObjectOptions{})
	if err != nil {
		return c.explain("check "+at.String()+" after its upload", at, err)
	}
	if has.Size == size && has.UserMetadata[sumKey] == sum {
		return nil
	}
	err = fmt.Errorf("%s is not what was uploaded: the storage has %d bytes with the sum %q, but %d with %q were sent; it was removed: try again, and if this happens again do not trust this storage",
		at, has.Size, has.UserMetadata[sumKey], size, sum)
	return errors.Join(err, c.Delete(ctx, at))
}

// List returns the objects in a folder, without those in folders below it.
func (c *Client) List(ctx context.Context, folder Location) ([]Object, error) {
	prefix := folder.Key
	if prefix != "" {
		prefix += "/"
	}
	var all []Object
	for o := range c.api.ListObjectsIter(ctx, folder.Bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, c.explain("list "+folder.String(), folder, o.Err)
		}
		if name := strings.TrimPrefix(o.Key, prefix); name != "" && !strings.HasSuffix(name, "/") {
			all = append(all, Object{name, o.Size, o.LastModified})
		}
	}
	if err := ctx.Err(); err != nil { // then the list ends without an error
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	return all, nil
}

// Find looks for one object; nil: there is none. It asks for a list because the answer
// to a HEAD request does not say what is wrong.
func (c *Client) Find(ctx context.Context, at Location) (*Object, error) {
	for o := range c.api.ListObjectsIter(ctx, at.Bucket, minio.ListObjectsOptions{Prefix: at.Key, MaxKeys: 1}) {
		if o.Err != nil {
			return nil, c.explain("look for "+at.String(), at, o.Err)
		}
		if o.Key == at.Key { // it is the first of the keys with this prefix
			return &Object{at.Name(), o.Size, o.LastModified}, nil
		}
		break
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for %s: %w", at, err)
	}
	return nil, nil
}

// Download writes an object to a new file, for its owner only. It fails if that is
// not what was uploaded. After an error the file may exist.
func (c *Client) Download(ctx context.Context, from Location, file string) error {
	what := "download " + from.String()
	in, info, _, err := c.api.GetObject(ctx, from.Bucket, from.Key, minio.GetObjectOptions{})
	if err != nil {
		return c.explain(what, from, err)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("make a file for the download: %w", err), in.Close())
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, hash), in)
	err = errors.Join(err, in.Close(), out.Close())
	switch sum := info.UserMetadata[sumKey]; {
	case n < info.Size:
		return fmt.Errorf("%s: only %d of %d bytes arrived: %w; try again", what, n, info.Size, orCutOff(err))
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case sum != "" && sum != hex.EncodeToString(hash.Sum(nil)): // other programs upload without a sum
		return fmt.Errorf("%s is not what was uploaded: its SHA-256 was %s, but is %x; use another copy", from, sum, hash.Sum(nil))
	}
	return nil
}

func orCutOff(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Delete removes an object. It is not an error if there is none.
func (c *Client) Delete(ctx context.Context, at Location) error {
	if err := c.api.RemoveObject(ctx, at.Bucket, at.Key, minio.RemoveObjectOptions{}); err != nil {
		return c.explain("delete "+at.String(), at, err)
	}
	return nil
}
