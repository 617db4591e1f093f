// Package seal encrypts files, so that nobody can read them without the key or the
// passphrase. The format is age's (age-encryption.org/v1), so the age program reads
// and writes the same files.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"everynode/internal/datadir"
)

// To says who can open a file. With the zero value it is not encrypted.
type To struct {
	// Recipients are public keys, age1...
	Recipients []string
	// RecipientsFile has one public key on each line. Lines that begin with # are comments.
	RecipientsFile string
	// PassphraseFile has the passphrase in its first line; "-" is standard input.
	// It excludes recipients: only the passphrase opens such a file.
	PassphraseFile string

	work int // log2 of scrypt's rounds; 0: age's default, which takes about a second
}

// With says what opens a file.
type With struct {
	// Identities are files of private keys, as age-keygen makes them.
	Identities []string
	// PassphraseFile is as in To.
	PassphraseFile string
}

// Lock seals what goes through it.
type Lock struct{ recipients []age.Recipient }

// Lock reads the keys or the passphrase. It returns nil if t has neither. in is standard input.
func (t To) Lock(in io.Reader) (*Lock, error) {
	if t.PassphraseFile != "" {
		return t.passphraseLock(in)
	}
	l := &Lock{}
	for _, text := range t.Recipients {
		if err := l.add(text); err != nil {
			return nil, fmt.Errorf("recipient %q: %w", text, err)
		}
	}
	if t.RecipientsFile != "" {
		var text []byte
		err := datadir.CheckTrusted(t.RecipientsFile)
		if err == nil {
			text, err = os.ReadFile(t.RecipientsFile)
		}
		if err == nil {
			err = l.add(string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("recipients in %s: %w", t.RecipientsFile, err)
		}
	}
	if len(l.recipients) == 0 {
		return nil, nil
	}
	return l, nil
}

func (t To) passphraseLock(in io.Reader) (*Lock, error) {
	if len(t.Recipients) > 0 || t.RecipientsFile != "" {
		return nil, errors.New("a file is sealed either with a passphrase or for recipients: choose one")
	}
	phrase, err := passphrase(t.PassphraseFile, in)
	if err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(phrase)
	if err != nil {
		return nil, fmt.Errorf("the passphrase: %w", err)
	}
	if t.work > 0 {
		r.SetWorkFactor(t.work)
	}
	return &Lock{[]age.Recipient{r}}, nil
}

func (l *Lock) add(text string) error {
	if strings.Contains(text, "AGE-SECRET-KEY-") {
		return errors.New("that is a private key, which only the person who decrypts the file should have: give the public key, which age-keygen -y prints")
	}
	more, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("%w; a recipient begins with age1, and age-keygen prints it", err)
	}
	l.recipients = append(l.recipients, more...)
	return nil
}

// Writer returns a writer that seals what is written to it, and passes it on to out.
// Close ends the file and leaves out open. If l is nil, nothing is sealed.
func (l *Lock) Writer(out io.Writer) (io.WriteCloser, error) {
	if l == nil {
		return open{out}, nil
	}
	w, err := age.Encrypt(out, l.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return w, nil
}

type open struct{ io.Writer }

func (open) Close() error { return nil }

const (
	intro        = "age-encryption.org/v1"
	armoredIntro = armor.Header
)

// IsSealed reports whether what begins like head is a sealed file, in age's binary form
// or in its text form.
func IsSealed(head []byte) bool {
	return bytes.HasPrefix(head, []byte(intro)) || bytes.HasPrefix(head, []byte(armoredIntro))
}

// Open decrypts from, and writes the content to out. in is standard input. If it returns
// an error, out may have only the beginning of the content, but no wrong byte.
func (w With) Open(from io.Reader, out io.Writer, in io.Reader) error {
	keys, err := w.keys(in)
	if err != nil {
		return err
	}
	from, err = dearmor(from)
	if err != nil {
		return err
	}
	plain, err := age.Decrypt(from, keys...)
	var no *age.NoIdentityMatchError
	switch {
	case errors.As(err, &no) && w.PassphraseFile != "":
		return errors.New("the passphrase is wrong, or it was sealed for a key: name the key's file with --identity")
	case errors.As(err, &no):
		return errors.New("it was not sealed for any of the given keys; if it was sealed with a passphrase, give --passphrase-file")
	case err != nil:
		return fmt.Errorf("its header is damaged: %w; use another copy", err)
	}
	if _, err := io.Copy(out, plain); err != nil {
		return copyError(err)
	}
	return nil
}

// copyError tells an output that cannot be written from a sealed file that cannot be read.
func copyError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("it is damaged, or was cut off: %w; use another copy", err)
}

func dearmor(from io.Reader) (io.Reader, error) {
	head := make([]byte, len(armoredIntro))
	n, err := io.ReadFull(from, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), from)
	if string(head[:n]) == armoredIntro {
		return armor.NewReader(whole), nil
	}
	return whole, nil
}

func (w With) keys(in io.Reader) (keys []age.Identity, err error) {
	for _, file := range w.Identities {
		more, err := identities(file)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	if w.PassphraseFile != "" {
		phrase, err := passphrase(w.PassphraseFile, in)
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(phrase)
		if err != nil {
			return nil, fmt.Errorf("the passphrase: %w", err)
		}
		keys = append(keys, id)
	}
	if len(keys) == 0 {
		return nil, errors.New("it is sealed: name the file of the key that opens it with --identity, or of the passphrase with --passphrase-file")
	}
	return keys, nil
}

func identities(file string) ([]age.Identity, error) {
	text, err := readPrivate(file)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the key in %s: %w; expected a file that age-keygen wrote", file, err)
	}
	return ids, nil
}

// passphrase returns the first line of a file.
func passphrase(file string, in io.Reader) (string, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(in, maxPassphrase))
	} else {
		text, err = readPrivate(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if strings.TrimSpace(line) == "" {
		return "", fmt.Errorf("there is no passphrase in the first line of %s", file)
	}
	return line, nil
}

// maxPassphrase, in bytes, is more than anybody types.
const maxPassphrase = 1 << 16

// readPrivate reads a file with a secret, and refuses one that others can read.
func readPrivate(file string) ([]byte, error) {
	if err := datadir.CheckSecret(file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
