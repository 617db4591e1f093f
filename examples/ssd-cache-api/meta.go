package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxMetaBytes limits what is read of a file that may be damaged.
const maxMetaBytes = 8 << 10

// meta is what a file says about the value before it. A file is the value, the meta as JSON, and the JSON's
// length in four bytes, so that a value of unknown size can be written in one pass and a truncated file is
// recognized.
type meta struct {
	Key     string    `json:"key"`
	Type    string    `json:"type,omitempty"`
	Size    int64     `json:"size"`
	Stored  time.Time `json:"stored"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// expired reports whether the value must not be served at the time now.
func (m meta) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// appendMeta writes m after a value.
func appendMeta(w io.Writer, m meta) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMetaBytes {
		return fmt.Errorf("%w: key and content type take %d bytes", errTooLarge, len(text))
	}
	_, err = w.Write(binary.BigEndian.AppendUint32(text, uint32(len(text))))
	return err
}

// readMeta reads the meta of a file and checks it against the file's length.
func readMeta(name string) (meta, error) {
	file, err := os.Open(name)
	if err != nil {
		return meta{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return meta{}, err
	}
	const lengthBytes = 4
	var tail [lengthBytes]byte
	if _, err := file.ReadAt(tail[:], max(0, info.Size()-lengthBytes)); err != nil {
		return meta{}, fmt.Errorf("cut short: %w", err)
	}
	length := int64(binary.BigEndian.Uint32(tail[:]))
	size := info.Size() - lengthBytes - length
	if length > maxMetaBytes || size < 0 {
		return meta{}, errors.New("cut short")
	}
	text := make([]byte, length)
	if _, err := file.ReadAt(text, size); err != nil {
		return meta{}, err
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return meta{}, fmt.Errorf("cut short: %w", err)
	}
	if m.Size != size {
		return meta{}, fmt.Errorf("%d bytes of value, want %d", size, m.Size)
	}
	return m, nil
}
