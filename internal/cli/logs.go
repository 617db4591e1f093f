package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

// logsCommand is `everynode logs`.
type logsCommand struct {
	*console.Console
	cluster *target
}

func (cmd logsCommand) command() *cobra.Command {
	follow, tail, export := false, 0, ""
	c := &cobra.Command{
		Use:   "logs [server | simulator | registry | NODE [kubelet | containerd | kube-proxy]]",
		Short: "Show what the cluster's own processes have logged",
		Long: `Show the log of the control plane (the default), of the simulator, of the registry, of a
node's agent, or of one of the agent's children. The logs of pods are shown by 'everynode kubectl logs'.

With --export all logs go into one archive for a bug report, together with the state of
nodes, pods and DaemonSets. Keys, tokens and the specifications of pods are left out.`,
		Example: `  everynode logs -f
  everynode logs node-2 kubelet --tail 50
  everynode logs --export report.tar.gz`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if export != "" && (len(args) > 0 || follow || c.Flags().Changed("tail")) {
				return console.Usage(errors.New("--export takes all logs: give no name, no --follow and no --tail with it"))
			}
			if tail < 0 {
				return console.Usage(fmt.Errorf("--tail %d: give a number of lines", tail))
			}
			m, err := cmd.cluster.open()
			if err != nil {
				return err
			}
			if export != "" {
				return cmd.export(c.Context(), m, export)
			}
			file, err := logOf(m.Logs(), args)
			if err != nil {
				return err
			}
			return showLog(c.Context(), cmd.Out, file, tail, follow)
		},
		ValidArgsFunction: cmd.complete,
	}
	cmd.cluster.addFlags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on, until Ctrl-C")
	c.Flags().IntVar(&tail, "tail", 0, "show only this many of the last lines (0: all)")
	c.Flags().StringVar(&export, "export", "", "write all logs and the cluster's state to this file, a .tar.gz")
	return c
}

func (cmd logsCommand) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	m, err := cmd.cluster.open()
	if err != nil || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, l := range m.Logs() {
		of, child, _ := strings.Cut(l.Of, " ")
		switch {
		case len(args) == 0 && child == "":
			names = append(names, of)
		case len(args) == 1 && of == args[0] && child != "":
			names = append(names, child)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// logOf finds the log that the user asked for.
func logOf(all []localcluster.LogFile, args []string) (localcluster.LogFile, error) {
	asked := strings.TrimSuffix(cmp.Or(strings.Join(args, " "), "server"), " "+localcluster.AgentName)
	var names []string
	for _, l := range all {
		if l.Of == asked {
			return l, nil
		}
		names = append(names, l.Of)
	}
	return localcluster.LogFile{}, console.Usage(fmt.Errorf("nothing here is called %q%s", asked, console.DidYouMean(asked, names)))
}

// showLog writes a log, or its last lines, and with follow also what is added later.
func showLog(ctx context.Context, out io.Writer, l localcluster.LogFile, tail int, follow bool) error {
	f, err := os.Open(l.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s has logged nothing yet: there is no %s", l.Of, l.Path)
	case err != nil:
		return localcluster.Unreadable(filepath.Dir(l.Path), err)
	}
	defer func() { f.Close() }() // the file may have changed by then
	if tail > 0 {
		if err := seekLines(f, tail); err != nil {
			return fmt.Errorf("read the log of %s: %w", l.Of, err)
		}
	}
	for {
		if _, err := io.Copy(out, f); err != nil {
			return fmt.Errorf("read the log of %s: %w", l.Of, err)
		}
		if !follow || !pause(ctx, followEvery) {
			return nil
		}
		if f, err = current(f, l.Path); err != nil {
			return fmt.Errorf("read the log of %s: %w", l.Of, err)
		}
	}
}

// followEvery is how often showLog looks for new lines.
const followEvery = 200 * time.Millisecond

// pause waits for d. It reports whether ctx is still valid.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rewind goes to the beginning of a log that is now shorter than what was read of it:
// it was truncated.
func rewind(f *os.File, size int64) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err == nil && at > size {
		_, err = f.Seek(0, io.SeekStart)
	}
	return err
}

// current returns the log that is written now; f is the one that was read until now.
// Agents set aside a log that has grown long, and begin another. current closes f if
// it returns another file.
func current(f *os.File, path string) (*os.File, error) {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil // the next one has not begun yet
	}
	if err != nil {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return f, err
	}
	if os.SameFile(info, now) {
		return f, rewind(f, now.Size())
	}
	next, err := os.Open(path)
	if err != nil {
		return f, err
	}
	return next, f.Close()
}

// seekLines goes to the start of the last n lines. It reads from the end.
func seekLines(f *os.File, n int) error {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	block := make([]byte, 32<<10)
	for end := at; at > 0; {
		size := min(at, int64(len(block)))
		at -= size
		if _, err := f.ReadAt(block[:size], at); err != nil {
			return err
		}
		for i, b := range slices.Backward(block[:size]) {
			// The newline that ends the last line does not begin another.
			if b == '\n' && at+int64(i)+1 < end {
				if n--; n == 0 {
					_, err := f.Seek(at+int64(i)+1, io.SeekStart)
					return err
				}
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
