package datadir

import (
	"os"
	"path/filepath"
	"testing"
)

func markOf(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, MarkName))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func claimed(t *testing.T, dir string, kind Kind) *Dir {
	t.Helper()
	d, err := Claim(dir, kind)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The directory of a server is never taken by `up`, which may delete it.
func TestUpLeavesServers(t *testing.T) {
	d := claimed(t, filepath.Join(t.TempDir(), "d"), Server)
	if err := d.SetStore(StoreMade); err != nil {
		t.Fatal(err)
	}
	before := markOf(t, d.Path)
	_, err := Claim(d.Path, Up)
	wantError(t, err, "is the data directory of an everynode server")
	wantError(t, err, "restore a snapshot of it into a new directory")
	if after := markOf(t, d.Path); after != before {
		t.Errorf("the mark was %s and is %s", before, after)
	}
}

// What a restore has filled is anybody's until a server has used it.
func TestUpTakesWhatWasRestored(t *testing.T) {
	restored := func(t *testing.T) *Dir {
		d := claimed(t, filepath.Join(t.TempDir(), "d"), Server)
		if err := d.SetRestored(); err != nil {
			t.Fatal(err)
		}
		if err := d.SetStore(StoreMade); err != nil {
			t.Fatal(err)
		}
		return d
	}

	up := restored(t)
	before := markOf(t, up.Path)
	if d := claimed(t, up.Path, Up); d.Kind() != Server || markOf(t, up.Path) != before {
		t.Errorf("a claim alone has made it %s: %s", d.Kind(), markOf(t, up.Path))
	}
	d := claimed(t, up.Path, Up)
	if err := d.Adopt(); err != nil || d.Kind() != Up {
		t.Fatalf("%v, kind %s", err, d.Kind())
	}
	if err := d.Undo(); err != nil || markOf(t, up.Path) != before {
		t.Errorf("%v; the mark was %s and is %s", err, before, markOf(t, up.Path))
	}
	if err := claimed(t, up.Path, Up).Adopt(); err != nil {
		t.Fatal(err)
	}
	if d := claimed(t, up.Path, Server); d.Kind() != Up || d.Store() != StoreMade { // as the server of `up`
		t.Errorf("kind %s, store %s", d.Kind(), d.Store())
	}

	served := restored(t)
	late := claimed(t, served.Path, Up)
	if err := claimed(t, served.Path, Server).SetServed(); err != nil {
		t.Fatal(err)
	}
	_, err := Claim(served.Path, Up)
	wantError(t, err, "is the data directory of an everynode server")
	wantError(t, late.Adopt(), "is the data directory of an everynode server")
	if err := claimed(t, served.Path, Server).SetRestored(); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(served.Path, Up); err == nil {
		t.Error("a restore into a server's directory has made it anybody's")
	}
}

// A mark that was there keeps every byte.
func TestUndoRestoresTheMark(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	const was = "{\"kind\": \"server\", \"format\": 1, \"later\": true}\n"
	fill(t, dir, map[string]string{MarkName: was})
	d := claimed(t, dir, Server)
	if err := d.SetStore(StoreBegun); err != nil {
		t.Fatal(err)
	}
	if err := d.Undo(); err != nil || markOf(t, dir) != was {
		t.Errorf("%v; the mark is %s", err, markOf(t, dir))
	}
}
