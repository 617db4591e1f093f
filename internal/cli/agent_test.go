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
	if token, missing, err := agentToken(false, "", file); err != nil || token != "abcdef.0123456789abcdef" || missing != "" {
		t.Errorf("%q, %q, %v", token, missing, err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	token, _, err := agentToken(false, "", file)
	if err == nil || token != "" || !strings.Contains(err.Error(), "chmod 600 "+file) || strings.Contains(err.Error(), "abcdef") {
		t.Errorf("%q, %v", token, err)
	}
}

// A machine that has joined starts without a token. One that has not is told why there is none.
func TestNoToken(t *testing.T) {
	t.Setenv("EVERYNODE_TOKEN", "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		given      bool
		file, want string
	}{
		{want: ""},
		{given: true, want: "--token is empty"},
		{file: "none", want: "there is no file " + dir + "/none (--token-file)"},
		{file: "empty", want: "the file " + dir + "/empty (--token-file) is empty"},
	} {
		if tc.file != "" {
			tc.file = filepath.Join(dir, tc.file)
		}
		if token, missing, err := agentToken(tc.given, "", tc.file); err != nil || token != "" || missing != tc.want {
			t.Errorf("%+v: %q, %q, %v", tc, token, missing, err)
		}
	}
}
