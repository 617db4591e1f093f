// Package datadir decides whether a directory is everynode's own, and deletes only everynode's files in it. A
// directory is everynode's if it was missing or empty when everynode claimed it. It then carries everynode's mark,
// and everynode made what is in it, under the names of its layout.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"everynode/internal/atomicfile"
)

// Kind is whose data a directory contains.
type Kind string

const (
	// Up is a cluster of one machine: `everynode up`, and the control plane that it starts.
	Up Kind = "up"
	// Server is a control plane alone.
	Server Kind = "server"
	// Agent is one node.
	Agent Kind = "agent"
)

// who names the owner of a directory in messages.
func (k Kind) who() string {
	return map[Kind]string{Up: "a cluster of `everynode up`", Server: "an everynode server", Agent: "an everynode agent"}[k]
}

// takes reports whether k may use a directory with this mark. `up` starts a server in its own directory. It goes on
// with what was restored, but not with what a server has used: it would delete that on `down --purge`.
func (k Kind) takes(m mark) bool {
	return k == m.Kind || k == Server && m.Kind == Up || k == Up && m.Kind == Server && m.Restored
}

// Dir is a data directory that carries our mark.
type Dir struct {
	// Path is an absolute path without symbolic links.
	Path string

	mark   mark
	raw    []byte   // the mark's file, as it was read
	former []byte   // the same, before it was changed; nil if it was not
	made   []string // directories that Claim made, parents first
	marked bool     // Claim wrote the mark
}

// Claim makes dir the data directory of kind, unless it is already. It creates what is missing (mode 0700), and
// changes neither mode nor owner of what exists. The error says why everynode may not use dir, and what to do; Claim
// then leaves nothing behind. It takes over directories of releases that wrote no mark. The mark of a restored server
// stays as it is: [Dir.Adopt] makes it one of `up`.
func Claim(dir string, kind Kind) (*Dir, error) { return claim(dir, kind, false) }

// ClaimWithin is Claim for a directory inside another data directory: the one of a node of `everynode up`.
func ClaimWithin(dir string, kind Kind) (*Dir, error) { return claim(dir, kind, true) }

func claim(dir string, kind Kind, within bool) (_ *Dir, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if err := checkPlace(abs); err != nil {
		return nil, err
	}
	d := &Dir{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Undo())
		}
	}()
	d.made, err = makeAll(abs)
	if errors.Is(err, errDangling) {
		return nil, fmt.Errorf("the data directory %s cannot be used: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the data directory %s cannot be created: %w; %s", dir, err, remedy(err))
	}
	if d.Path, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if err := checkPlace(d.Path); err != nil { // once more: a symbolic link may have led elsewhere
		return nil, err
	}
	if err := checkOwner(d.Path); err != nil {
		return nil, err
	}
	return d, d.take(kind, within)
}

// take compares the existing mark with kind, or writes one.
func (d *Dir) take(kind Kind, within bool) error {
	err := d.read()
	if errors.Is(err, fs.ErrNotExist) {
		if d.mark, err = d.firstMark(kind, within); err != nil {
			return err
		}
		if err = d.create(); err == nil {
			d.marked = true
			return nil
		}
		if errors.Is(err, fs.ErrExist) {
			err = d.read() // another process was faster
		}
	}
	if err != nil {
		return err
	}
	if !kind.takes(d.mark) {
		return wrongKind(d.Path, kind, d.mark.Kind)
	}
	return nil
}

// firstMark returns the mark that a directory without one gets. The error says why it gets none.
func (d *Dir) firstMark(kind Kind, within bool) (mark, error) {
	m := mark{Format: markFormat, Kind: kind, Made: len(d.made) > 0}
	entries, err := foreignTo(d.Path)
	if err != nil {
		return m, err
	}
	if len(entries) == 0 {
		if outer, of := outerDir(d.Path); outer != "" && !within {
			return m, fmt.Errorf("the data directory %s is inside %s, the data directory of %s, which may delete it: choose another one with --data-dir", d.Path, outer, of.who())
		}
		return m, nil
	}
	m.Made = true // as far as anybody can tell
	switch old := unmarkedKind(d.Path); {
	case old != "" && kind.takes(mark{Kind: old}):
		return m, nil
	case old != "":
		return m, wrongKind(d.Path, kind, old)
	case onlyBegun(entries, kind):
		return m, nil
	}
	return m, fmt.Errorf("the data directory %s contains %s, which everynode did not make, but a data directory must belong to everynode alone: "+
		"name a new or empty directory with --data-dir", d.Path, some(entries))
}

func wrongKind(dir string, kind, is Kind) error {
	if kind == Up && is == Server {
		return fmt.Errorf("%s is the data directory of %s, and a cluster of `everynode up` would delete it on `everynode down --purge`: give the cluster its own directory with --data-dir or --name; "+
			"to go on with that server's cluster on this machine alone, restore a snapshot of it into a new directory (everynode server snapshot restore FILE --data-dir NEW), and run `everynode up --data-dir NEW`",
			dir, is.who())
	}
	return fmt.Errorf("%s is the data directory of %s, and the keys of one would replace those of the other: give %s its own directory with --data-dir (the default is one)",
		dir, is.who(), kind.who())
}

// Undo removes what Claim made, unless something else has been added to it. A mark that was there before becomes what
// it was.
func (d *Dir) Undo() error {
	if d.former != nil && !d.marked {
		if err := d.writeRaw(d.former, (*atomicfile.File).Commit); err != nil {
			return fmt.Errorf("restore the mark of the data directory: %w", err)
		}
		d.former = nil
	}
	if d.marked {
		if err := os.Remove(filepath.Join(d.Path, MarkName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the mark of the data directory again: %w", err)
		}
		d.marked = false
	}
	for i := len(d.made) - 1; i >= 0; i-- {
		err := unix.Rmdir(d.made[i]) // and never a file or a link that has taken its place
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("remove the data directory %s again: %w", d.made[i], err)
		}
	}
	d.made = nil
	return nil
}

// Find returns the marked data directory at dir; fs.ErrNotExist when there is none.
func Find(dir string) (*Dir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	d := &Dir{Path: real}
	if err := checkOwner(real); err != nil {
		return nil, err
	}
	return d, d.read()
}

// Kind returns whose directory it is.
func (d *Dir) Kind() Kind { return d.mark.Kind }

// Made reports whether everynode made the directory itself. Otherwise it was empty when everynode claimed it.
func (d *Dir) Made() bool { return d.mark.Made }

// errDangling means that a symbolic link leads nowhere, most often to a disk that is not mounted.
var errDangling = errors.New("mount the disk that has it, or make that directory if it is to be new")

// makeAll is os.MkdirAll with mode 0700, and returns what it made, parents first. It makes nothing behind a link.
func makeAll(dir string) (made []string, err error) {
	switch st, err := os.Stat(dir); {
	case err == nil && st.IsDir():
		return nil, nil
	case err == nil:
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if to, err := os.Readlink(dir); err == nil {
		return nil, fmt.Errorf("%s is a link to %s, which is missing: %w", dir, to, errDangling)
	}
	if made, err = makeAll(filepath.Dir(dir)); err != nil {
		return made, err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		return append(made, dir), nil
	case errors.Is(err, fs.ErrExist): // somebody else was faster, and it is theirs
		return made, nil
	default:
		return made, err
	}
}

// checkOwner refuses a directory in which another user could change files that this process reads or writes.
func checkOwner(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("look at the data directory %s: %w", dir, err)
	}
	if us := uint32(os.Geteuid()); st.Uid != us {
		return fmt.Errorf("the data directory %s belongs to user %d, but everynode runs as user %d: the owner could replace keys and programs; "+
			"choose another one with --data-dir, or, if it is meant for everynode alone: chown %d %s", dir, st.Uid, us, us, dir)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("the data directory %s can be written by others (mode %04o), who could replace keys and programs: "+
			"choose another one with --data-dir, or, if it is meant for everynode alone: chmod go-w %s", dir, st.Mode&0o7777, dir)
	}
	return nil
}

// remedy returns what to do about an error of the disk.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "the disk is full: free some space, or choose another one with --data-dir"
	case errors.Is(err, unix.EROFS):
		return "the disk is read-only: mount it for writing, or choose another one with --data-dir"
	case errors.Is(err, fs.ErrPermission):
		return "choose another one with --data-dir, or run as its owner"
	}
	return "choose another one with --data-dir"
}

// some returns the names of a few entries.
func some(entries []string) string {
	const few = 3
	if len(entries) <= few {
		return strings.Join(entries, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(entries[:few], ", "), len(entries)-few)
}
