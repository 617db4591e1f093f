package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckProtocols(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tc := range []struct {
		name, text string
		want       bool
	}{
		{"debian", "# Internet (IP) protocols\nip\t0\tIP\t\t# internet protocol\ntcp\t6\tTCP\t\t# transmission control protocol\n", true},
		{"empty", "", false},
		{"other", "tcp-like 6\n#tcp 6\ntcp\n", false},
	} {
		file := filepath.Join(dir, tc.name)
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkProtocols(file); (err == nil) != tc.want {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if err := checkProtocols(filepath.Join(dir, "missing")); err == nil || !strings.Contains(err.Error(), "apt-get install netbase") {
		t.Errorf("no file: %v", err)
	}
}
