package controlplane

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// No input from others does harm: make fuzz.

// FuzzSnapshot: an archive that is accepted has what its manifest says, and writes
// only to its folder.
func FuzzSnapshot(f *testing.F) {
	f.Add(smallSnapshot(f, nil))
	f.Add(smallSnapshot(f, func(s *Snapshot) { s.Members[1].Name = "../../evil" }))
	f.Add(smallSnapshot(f, func(s *Snapshot) { s.Members[0].Size = -1 }))
	f.Add(smallSnapshot(f, nil)[:1000])
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "work")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		info, err := unpack(bytes.NewReader(data), dir)
		if entries, readErr := os.ReadDir(parent); readErr != nil || len(entries) != 1 {
			t.Errorf("beside the folder: %v, %v", entries, readErr)
		}
		if err != nil {
			return
		}
		for _, m := range info.Members {
			text, err := os.ReadFile(filepath.Join(dir, m.Name))
			if sum := sha256.Sum256(text); err != nil || int64(len(text)) != m.Size || hex.EncodeToString(sum[:]) != m.SHA256 {
				t.Errorf("%s is not what the manifest says: %v", m.Name, err)
			}
		}
	})
}

// smallSnapshot returns an archive whose members have a few bytes each.
func smallSnapshot(f *testing.F, change func(*Snapshot)) []byte {
	f.Helper()
	info := Snapshot{Format: snapshotFormat, Everynode: "test"}
	for _, name := range append(sharedNames(), databaseName) {
		sum := sha256.Sum256([]byte(name))
		info.Members = append(info.Members, archiveMember{name, int64(len(name)), hex.EncodeToString(sum[:])})
	}
	names := info.Members
	if change != nil {
		names = append([]archiveMember{}, names...)
		change(&info)
	}
	manifest, err := json.Marshal(info)
	if err != nil {
		f.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name, text string) {
		if err := addMember(w, time.Unix(0, 0), name, int64(len(text)), strings.NewReader(text)); err != nil {
			f.Fatal(err)
		}
	}
	add(manifestName, string(manifest))
	for _, m := range names {
		add(m.Name, m.Name)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}
