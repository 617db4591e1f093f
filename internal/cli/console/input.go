package console

import (
	"context"
	"io"
)

// interrupted is the error of a reader that the user does not want to wait for any longer.
type interrupted struct{ error }

func (interrupted) Error() string { return "interrupted" }

func (i interrupted) Unwrap() error { return i.error }

// Until returns in as a reader that fails once ctx has ended. Nothing ends a read from a terminal or a pipe itself: the
// one that waits then goes on until the process ends, and what it reads is lost.
func Until(ctx context.Context, in io.Reader) io.Reader { return &input{ctx: ctx, in: in} }

type input struct {
	ctx context.Context
	in  io.Reader
}

func (i *input) Read(p []byte) (int, error) {
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	into := make([]byte, len(p)) // the caller's may be used again while a lost read still writes
	go func() {
		n, err := i.in.Read(into)
		read <- result{into[:n], err}
	}()
	select {
	case r := <-read:
		return copy(p, r.text), r.err
	case <-i.ctx.Done():
		return 0, interrupted{i.ctx.Err()}
	}
}
