package console

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestUntil(t *testing.T) {
	text := strings.Repeat("line\n", 1000)
	if got, err := io.ReadAll(Until(t.Context(), strings.NewReader(text))); err != nil || string(got) != text {
		t.Errorf("%d bytes, want %d; %v", len(got), len(text), err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	typed, terminal := io.Pipe()
	t.Cleanup(func() {
		if err := terminal.Close(); err != nil {
			t.Error(err)
		}
	})
	in := Until(ctx, typed)
	go func() {
		if _, err := io.WriteString(terminal, "half a "); err != nil {
			t.Error(err)
		}
		interrupt()
	}()
	got, err := io.ReadAll(in)
	if string(got) != "half a " || !errors.Is(err, context.Canceled) || err.Error() != "interrupted" {
		t.Errorf("%q, %v", got, err)
	}
}
