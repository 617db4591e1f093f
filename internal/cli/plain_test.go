package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Nothing that others have written moves the cursor of who reads it, in whatever piece it is written.
func TestPlainText(t *testing.T) {
	evil := "pod \x1b]0;owned\x07\x1b[2J\u202etxt.exe\r\nnext\tcolumn é 世"
	want := "pod ?]0;owned??[2J?txt.exe?\nnext\tcolumn é 世"
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs}
	if err := a.print("", nil, func() error { _, err := fmt.Fprint(a.out, evil); return err }); err != nil || out.String() != want {
		t.Errorf("%q (%v), want %q", out.String(), err, want)
	}
	if a.out != &out {
		t.Error("what comes after it goes somewhere else")
	}
	a.exitCode(errors.New(evil))
	if got := errs.String(); !strings.Contains(got, want) {
		t.Errorf("an error is printed as %q", got)
	}
	out.Reset()
	if err := a.print("json", evil, nil); err != nil || strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("%q (%v)", out.String(), err)
	}
}
