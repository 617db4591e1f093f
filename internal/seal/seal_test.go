package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// desk is a folder with keys and passphrases.
type desk struct {
	t      *testing.T
	folder string
}

func (d desk) file(name, text string, mode os.FileMode) string {
	d.t.Helper()
	path := filepath.Join(d.folder, name)
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil { // whatever the umask
		d.t.Fatal(err)
	}
	return path
}

// key makes a key pair: the file of the private key, and the public one.
func (d desk) key(name string) (file, public string) {
	d.t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		d.t.Fatal(err)
	}
	return d.file(name, "# a key\n"+id.String()+"\n", 0o600), id.Recipient().String()
}

func (d desk) seal(to To, text string) []byte {
	d.t.Helper()
	to.work = 10
	lock, err := to.Lock(strings.NewReader("from standard input\nand more"))
	if err != nil {
		d.t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := lock.Writer(&out)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return out.Bytes()
}

// opens returns the content of a sealed file, or the text of the error.
func opens(sealed []byte, with With) string {
	var out bytes.Buffer
	if err := with.Open(bytes.NewReader(sealed), &out, strings.NewReader("from standard input\n")); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestSeal(t *testing.T) {
	d := desk{t, t.TempDir()}
	key, public := d.key("key")
	other, second := d.key("other")
	phrase := d.file("phrase", "correct horse\n", 0o600)
	wrong := d.file("wrong", "battery staple\n", 0o600)
	list := d.file("list", "# two\n"+public+"\n"+second+"\n", 0o644)
	text := strings.Repeat("the state of a cluster ", 10_000)
	forKey, forPhrase := d.seal(To{Recipients: []string{public}}, text), d.seal(To{PassphraseFile: phrase}, text)
	forTwo, typed := d.seal(To{RecipientsFile: list}, text), d.seal(To{PassphraseFile: "-"}, text)
	plain := d.seal(To{}, text)
	for _, c := range []struct {
		what   string
		sealed []byte
		with   With
		want   string
	}{
		{"its key", forKey, With{Identities: []string{key}}, text},
		{"its key among others", forKey, With{Identities: []string{other, key}}, text},
		{"a key of two", forTwo, With{Identities: []string{other}}, text},
		{"another key", forKey, With{Identities: []string{other}}, "not sealed for any of the given keys"},
		{"a key, where it has a passphrase", forPhrase, With{Identities: []string{key}}, "give --passphrase-file"},
		{"its passphrase", forPhrase, With{PassphraseFile: phrase}, text},
		{"its passphrase, typed", typed, With{PassphraseFile: "-"}, text},
		{"another passphrase", forPhrase, With{PassphraseFile: wrong}, "the passphrase is wrong"},
		{"a passphrase, where it is for a key", forKey, With{PassphraseFile: phrase}, "name the key's file"},
		{"nothing", forKey, With{}, "it is sealed"},
		{"as text", armored(t, forKey), With{Identities: []string{key}}, text},
		{"cut off", forKey[:len(forKey)/2], With{Identities: []string{key}}, "cut off"},
		{"cut off in its head", forKey[:30], With{Identities: []string{key}}, "its header is damaged"},
		{"empty", nil, With{Identities: []string{key}}, "its header is damaged"},
		{"changed", changed(forKey), With{Identities: []string{key}}, "damaged"},
	} {
		if got := opens(c.sealed, c.with); got != c.want && (c.want == text || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %.200q, want %.200q", c.what, got, c.want)
		}
		if c.sealed != nil && len(c.sealed) > len(intro) && !IsSealed(c.sealed) {
			t.Errorf("%s: it does not look sealed", c.what)
		}
	}
	if string(plain) != text || IsSealed(plain) {
		t.Error("without keys and passphrase, the text has changed")
	}
	if bytes.Contains(forKey, []byte("the state of")) {
		t.Error("sealed text can be read")
	}
}

func armored(t *testing.T, sealed []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	if _, err := w.Write(sealed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func changed(sealed []byte) []byte {
	c := bytes.Clone(sealed)
	c[len(c)-10] ^= 1
	return c
}

// TestBadKeys: which keys and passphrases are refused.
func TestBadKeys(t *testing.T) {
	d := desk{t, t.TempDir()}
	key, public := d.key("key")
	private, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for want, to := range map[string]To{
		"begins with age1":           {Recipients: []string{"me"}},
		"that is a private key":      {Recipients: []string{string(private)}},
		"no such file":               {RecipientsFile: filepath.Join(d.folder, "none")},
		"choose one":                 {Recipients: []string{public}, PassphraseFile: key},
		"there is no passphrase":     {PassphraseFile: d.file("empty", "\n", 0o600)},
		"chmod 600":                  {PassphraseFile: d.file("open", "secret\n", 0o644)},
		"recipients in " + d.folder:  {RecipientsFile: d.file("none.txt", "# nobody\n", 0o644)},
		"chmod go-w":                 {RecipientsFile: d.file("anybody.txt", public+"\n", 0o666)},
		"read the passphrase: stat ": {PassphraseFile: filepath.Join(d.folder, "none")},
	} {
		if _, err := to.Lock(strings.NewReader("")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", to, err, want)
		}
	}
	for want, with := range map[string]With{
		"chmod 600":                    {Identities: []string{d.file("open-key", string(private), 0o640)}},
		"a file that age-keygen wrote": {Identities: []string{d.file("no-key", "hello", 0o600)}},
		"name the file of the key":     {},
	} {
		if got := opens([]byte(intro), with); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", with, got, want)
		}
	}
}

// FuzzOpen: no input makes Open panic, and only what was sealed for the key opens.
func FuzzOpen(f *testing.F) {
	d := desk{&testing.T{}, f.TempDir()}
	key, public := d.key("key")
	sealed := d.seal(To{Recipients: []string{public}}, "text")
	f.Add(sealed)
	f.Add(sealed[:40])
	f.Add([]byte(armoredIntro + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var out bytes.Buffer
		err := With{Identities: []string{key}}.Open(bytes.NewReader(text), &out, nil)
		if err == nil && out.String() != "text" {
			t.Errorf("%q opened, and was never sealed: %q", text, out.String())
		}
	})
}
