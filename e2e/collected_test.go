package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// logLine is a line of a container's log, with the place where it was written: the offset in a file, in bytes.
type logLine struct {
	Node, Namespace, Pod, Container, Restart, Text string
	Offset                                         int64
}

// collected waits until every line that pods named POD-... have written on any node has arrived at the gateway of
// examples/agents/log-collector, and no other line of them. There must be at least AT-LEAST lines. Up to AT-MOST-AGAIN
// may have been sent twice, with the same file and offset, so that a store can tell that they are the same.
func collected(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: collected DURATION POD AT-LEAST AT-MOST-AGAIN")
	}
	atLeast, err := strconv.Atoi(args[2])
	ts.Check(err)
	atMostAgain, err := strconv.Atoi(args[3])
	ts.Check(err)
	c := clusterOf(ts)
	poll(ts, args[0], func(context.Context) (string, error) {
		written, err := c.writtenLines(args[1])
		if err != nil {
			return "", err
		}
		arrived, err := c.arrivedLines(args[1])
		if err != nil {
			return "", err
		}
		again, err := compareLines(written, arrived)
		switch {
		case err != nil:
			return "", err
		case len(written) < atLeast:
			return "", fmt.Errorf("%d lines written so far, want %d", len(written), atLeast)
		case again > atMostAgain:
			return "", fmt.Errorf("%d of %d lines were sent again, want %d at most", again, len(written), atMostAgain)
		}
		return fmt.Sprintf("%d lines, %d sent again\n", len(written), again), nil
	})
}

// compareLines counts the lines that arrived more than once. It returns an error for lines that are missing or that
// nobody wrote.
func compareLines(written, arrived []logLine) (again int, err error) {
	times := map[logLine]int{}
	for _, line := range written {
		times[line] = 0
	}
	var foreign, missing []string
	for _, line := range arrived {
		if _, ok := times[line]; !ok {
			foreign = append(foreign, fmt.Sprintf("%+v", line))
			continue
		}
		times[line]++
	}
	for line, n := range times {
		if n == 0 {
			missing = append(missing, fmt.Sprintf("%+v", line))
		}
		again += max(0, n-1)
	}
	if len(missing)+len(foreign) == 0 {
		return again, nil
	}
	slices.Sort(missing)
	return again, fmt.Errorf("of %d lines %d are missing: %v; %d arrived that nobody wrote: %v",
		len(written), len(missing), missing[:min(3, len(missing))], len(foreign), foreign[:min(3, len(foreign))])
}

func TestCompareLines(t *testing.T) {
	one, two := logLine{Pod: "a", Text: "same"}, logLine{Pod: "a", Text: "same", Offset: 40}
	for _, tc := range []struct {
		written, arrived []logLine
		again            int
		err              string
	}{
		{[]logLine{one, two}, []logLine{two, one}, 0, ""},
		{[]logLine{one, two}, []logLine{one, two, one}, 1, ""},
		{[]logLine{one, two}, []logLine{one, one}, 1, "of 2 lines 1 are missing"},
		{[]logLine{one}, []logLine{one, two}, 0, "1 arrived that nobody wrote"},
	} {
		again, err := compareLines(tc.written, tc.arrived)
		if again != tc.again || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v, %v: %d, %v", tc.written, tc.arrived, again, err)
		}
	}
}

// writtenLines reads the containers' log files on the nodes.
func (c *cluster) writtenLines(pod string) (lines []logLine, err error) {
	files, err := filepath.Glob(filepath.Join(c.dataDir, "nodes", "*", "log", "pods", "*_"+pod+"-*", "*", "*.log"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		inside, err := filepath.Rel(filepath.Join(c.dataDir, "nodes"), file)
		if err != nil {
			return nil, err
		}
		parts := strings.Split(inside, "/") // NODE/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTART.log
		names := strings.Split(parts[3], "_")
		from := logLine{Node: parts[0], Namespace: names[0], Pod: names[1], Container: parts[4], Restart: strings.TrimSuffix(parts[5], ".log")}
		more, err := criLines(file, from)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

// criLines reads a file in the format of the container runtime: time, stream, F or P (full or partial line), text.
func criLines(file string, from logLine) (lines []logLine, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	text, begin := "", true
	for offset := int64(0); scanner.Scan(); offset += int64(len(scanner.Bytes())) + 1 {
		fields := strings.SplitN(scanner.Text(), " ", 4)
		if len(fields) < 4 {
			return nil, fmt.Errorf("%s: %q is not a line of a container", file, scanner.Text())
		}
		if begin {
			from.Offset = offset
		}
		text, begin = text+fields[3], fields[2] == "F"
		if begin {
			from.Text, text = text, ""
			lines = append(lines, from)
		}
	}
	return lines, scanner.Err()
}

// otlpLogs is what the gateway writes, one object a line: OTLP in JSON.
type otlpLogs struct {
	ResourceLogs []struct {
		Resource  struct{ Attributes []otlpAttribute }
		ScopeLogs []struct {
			LogRecords []struct {
				Attributes []otlpAttribute
				Body       struct{ StringValue string }
			}
		}
	}
}

type otlpAttribute struct {
	Key   string
	Value struct {
		StringValue string
		IntValue    int64 `json:",string"`
	}
}

// arrivedLines reads the gateway's file, which is in the volume of its claim on some node.
func (c *cluster) arrivedLines(pod string) (lines []logLine, err error) {
	files, err := filepath.Glob(filepath.Join(c.dataDir, "nodes", "*", "volumes", "pvc-*_default_log-gateway", "logs.jsonl"))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("files of a gateway: %v, want one", files)
	}
	f, err := os.Open(files[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for decoder := json.NewDecoder(f); ; {
		var batch otlpLogs
		err := decoder.Decode(&batch)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files[0], err) // the last one may be half written
		}
		lines = append(lines, batch.lines(pod)...)
	}
}

func (l otlpLogs) lines(pod string) (lines []logLine) {
	for _, r := range l.ResourceLogs {
		from := logLine{}
		for _, a := range r.Resource.Attributes {
			field := map[string]*string{
				"k8s.node.name": &from.Node, "k8s.namespace.name": &from.Namespace, "k8s.pod.name": &from.Pod,
				"k8s.container.name": &from.Container, "k8s.container.restart_count": &from.Restart,
			}[a.Key]
			if field != nil {
				*field = a.Value.StringValue
			}
		}
		if !strings.HasPrefix(from.Pod, pod+"-") {
			continue
		}
		for _, s := range r.ScopeLogs {
			for _, record := range s.LogRecords {
				from.Text = record.Body.StringValue
				for _, a := range record.Attributes {
					if a.Key == "log.file.record_offset" {
						from.Offset = a.Value.IntValue
					}
				}
				lines = append(lines, from)
			}
		}
	}
	return lines
}
