package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever can read a token can join with it, so a token file that others can
// read is refused.
func TestTokenFileOfOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("abcdef.0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if token, err := agentToken("", file); err != nil || token != "abcdef.0123456789abcdef" {
		t.Errorf("%q, %v", token, err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	token, err := agentToken("", file)
	if err == nil || token != "" || !strings.Contains(err.Error(), "chmod 600 "+file) || strings.Contains(err.Error(), "abcdef") {
		t.Errorf("%q, %v", token, err)
	}
	if token, err := agentToken("", file+"-"); err != nil || token != "" {
		t.Errorf("a missing file, as of a local node that has joined: %q, %v", token, err)
	}
}
