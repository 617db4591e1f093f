package e2e_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// inputSize is more than fits into all the buffers between kubectl and a container.
const inputSize = 1 << 20

// wholeInput sends a megabyte into a pod in each of the ways that people use, and
// checks that all of it arrives. The first two matter most: the program in the pod
// closes the standard output that kubectl reads, and continues to read its input.
func wholeInput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: whole-input POD")
	}
	ways := []func(in *input) error{(*input).redirected, (*input).counted, (*input).unpacked, (*input).copied}
	eachInput(ts, args[0], func(in *input) error {
		for _, way := range ways {
			if err := way(in); err != nil {
				return err
			}
		}
		return nil
	})
}

// wholeAttach does the same with attach. The pod's container must have redirected its
// output, and write the checksum of each megabyte that it reads to /tmp/sums.
func wholeAttach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: whole-attach POD")
	}
	eachInput(ts, args[0], (*input).attached)
}

// eachInput calls try once, or fifty times in the long run, each time with new content.
func eachInput(ts *testscript.TestScript, pod string, try func(*input) error) {
	rounds := 1
	if os.Getenv("EVERYNODE_LONG") != "" {
		rounds = 50
	}
	for round := range rounds {
		in := &input{ts: ts, pod: pod, round: round, content: make([]byte, inputSize)}
		_, err := rand.Read(in.content)
		ts.Check(err)
		if err := try(in); err != nil {
			ts.Fatalf("round %d of %d: %v", round+1, rounds, err)
		}
	}
}

// input is what one round sends.
type input struct {
	ts      *testscript.TestScript
	pod     string
	round   int
	content []byte
}

func (in *input) redirected() error {
	if _, err := in.kubectl(in.content, "exec", "-i", in.pod, "--", "sh", "-c", "cat > /tmp/redirected"); err != nil {
		return err
	}
	return in.arrived("/tmp/redirected")
}

func (in *input) counted() error {
	if _, err := in.kubectl(in.content, "exec", "-i", in.pod, "--", "sh", "-c", "wc -c > /tmp/counted"); err != nil {
		return err
	}
	out, err := in.kubectl(nil, "exec", in.pod, "--", "cat", "/tmp/counted")
	if got := strings.TrimSpace(out); err == nil && got != fmt.Sprint(len(in.content)) {
		return fmt.Errorf("wc has counted %s of %d bytes", got, len(in.content))
	}
	return err
}

func (in *input) unpacked() error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	in.ts.Check(w.WriteHeader(&tar.Header{Name: "unpacked", Mode: 0o600, Size: int64(len(in.content))}))
	_, err := w.Write(in.content)
	in.ts.Check(err)
	in.ts.Check(w.Close())
	if _, err := in.kubectl(archive.Bytes(), "exec", "-i", in.pod, "--", "tar", "-x", "-C", "/tmp"); err != nil {
		return err
	}
	return in.arrived("/tmp/unpacked")
}

func (in *input) copied() error {
	file := in.ts.MkAbs("copied")
	in.ts.Check(os.WriteFile(file, in.content, 0o600))
	if _, err := in.kubectl(nil, "cp", filepath.Base(file), in.pod+":/tmp/copied"); err != nil {
		return err
	}
	return in.arrived("/tmp/copied")
}

// attached returns when the container has written the checksum: attach ends once its
// input is sent, not when it has arrived.
func (in *input) attached() error {
	if _, err := in.kubectl(in.content, "attach", "-i", in.pod); err != nil {
		return err
	}
	want := fmt.Sprintf("%x", sha256.Sum256(in.content))
	poll(in.ts, "10s", func(context.Context) (string, error) {
		out, err := in.kubectl(nil, "exec", in.pod, "--", "cat", "/tmp/sums")
		if sums := strings.Split(out, "\n"); err == nil && !strings.HasPrefix(sums[min(in.round, len(sums)-1)], want) {
			return "", fmt.Errorf("not all of the input has arrived: sums are\n%s", out)
		}
		return "", err
	})
	return nil
}

// arrived compares a file in the pod with what was sent.
func (in *input) arrived(file string) error {
	out, err := in.kubectl(nil, "exec", in.pod, "--", "sha256sum", file)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(in.content)); !strings.HasPrefix(out, want) {
		size, err := in.kubectl(nil, "exec", in.pod, "--", "wc", "-c", file)
		return fmt.Errorf("%s is not what was sent, of %d bytes: %s (%v)", file, len(in.content), size, err)
	}
	return nil
}

// kubectl runs kubectl with that input and returns what it printed.
func (in *input) kubectl(stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, err := command(ctx, in.ts, "kubectl", args...)
	if err != nil {
		return "", err
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}
