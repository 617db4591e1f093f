package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"everynode/internal/atomicfile"
)

const (
	// MarkName is the file that marks a directory as everynode's.
	MarkName = "everynode.json"
	// markFormat is the version of the mark that this program writes, and the newest that it reads.
	markFormat = 1
)

// mark is the content of that file.
type mark struct {
	Format int  `json:"format"`
	Kind   Kind `json:"kind"`
	// Made is true if everynode made the directory itself, which may then be deleted with its content.
	Made bool `json:"made"`
	// Store is the state of the embedded etcd.
	Store StoreState `json:"store,omitempty"`
	// Restored is true if a restore has filled the directory, and no server has used it yet: then it may become one of
	// `everynode up`.
	Restored bool `json:"restored,omitempty"`
}

// StoreState is whether a data directory has had an etcd.
type StoreState string

const (
	// StoreUnknown is the state in a directory of a release that did not record it.
	StoreUnknown StoreState = ""
	// StoreBegun means that a first etcd is being made.
	StoreBegun StoreState = "begun"
	// StoreMade means that an etcd has answered: one that is missing now is lost.
	StoreMade StoreState = "made"
)

// Store returns the state of the embedded etcd.
func (d *Dir) Store() StoreState { return d.mark.Store }

// SetStore writes the state of the embedded etcd to the mark.
func (d *Dir) SetStore(s StoreState) error {
	return d.change(func(m *mark) { m.Store = s })
}

// SetRestored notes that a restore fills the directory, unless a server has had an etcd there.
func (d *Dir) SetRestored() error {
	return d.change(func(m *mark) { m.Restored = m.Restored || m.Kind == Server && m.Store == StoreUnknown })
}

// SetServed notes that a server uses the directory: it never becomes one of `up`.
func (d *Dir) SetServed() error {
	return d.change(func(m *mark) { m.Restored = false })
}

// Adopt makes the directory of a restored server, which [Claim] has taken for `up`, one of `up`. The caller holds the
// server's lock: a server that is faster keeps its directory.
func (d *Dir) Adopt() error {
	if err := d.read(); err != nil {
		return err
	}
	if !Up.takes(d.mark) {
		return wrongKind(d.Path, Up, d.mark.Kind)
	}
	return d.change(func(m *mark) { m.Kind, m.Restored = Up, false })
}

// change changes the mark, as it is on the disk now, by do.
func (d *Dir) change(do func(*mark)) error {
	if err := d.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	was := d.mark
	if do(&d.mark); d.mark == was {
		return nil
	}
	if d.former == nil {
		d.former = d.raw
	}
	return d.write()
}

func (d *Dir) markFile() string { return filepath.Join(d.Path, MarkName) }

// read reads the mark; fs.ErrNotExist when there is none. It follows no symbolic link.
func (d *Dir) read() error {
	st, err := os.Lstat(d.markFile())
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(d.markFile())
	}
	if err != nil {
		return fmt.Errorf("read the mark of the data directory %s: %w", d.Path, err)
	}
	m := mark{}
	if err := json.Unmarshal(data, &m); err != nil || m.Format < 1 || m.Kind.who() == "" && m.Format <= markFormat {
		return fmt.Errorf("%s is not what everynode writes there (%.40q): restore it from a backup, or delete it if you are sure that this directory belongs to everynode", d.markFile(), data)
	}
	if m.Format > markFormat {
		return fmt.Errorf("%s was written by a newer everynode (format %d, this program knows up to %d): use the everynode that made it, or a newer one",
			d.markFile(), m.Format, markFormat)
	}
	d.mark, d.raw = m, data
	return nil
}

// create writes the mark if there is none; otherwise the error is fs.ErrExist.
func (d *Dir) create() error { return d.writeBy((*atomicfile.File).CommitNew) }

func (d *Dir) write() error { return d.writeBy((*atomicfile.File).Commit) }

// writeBy writes the mark to a temporary file, which commit then gives its name.
func (d *Dir) writeBy(commit func(*atomicfile.File) error) error {
	data, err := json.Marshal(d.mark)
	if err != nil {
		return fmt.Errorf("encode the mark of the data directory: %w", err)
	}
	return d.writeRaw(append(data, '\n'), commit)
}

func (d *Dir) writeRaw(data []byte, commit func(*atomicfile.File) error) (err error) {
	defer func() {
		if err != nil && !errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("the data directory %s cannot be written: %w; %s", d.Path, err, remedy(err))
		}
	}()
	f, err := atomicfile.Create(d.markFile())
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Discard())
	}
	return commit(f)
}

// markTemp begins the names of marks that are being written (package atomicfile).
const markTemp = "." + MarkName + "."

// foreignTo lists the content of a directory without a mark, except what every new disk has and what a killed Claim
// has left.
func foreignTo(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the data directory %s: %w", dir, err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), markTemp) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
