package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	componentversion "k8s.io/component-base/version"

	"everynode/internal/atomicfile"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

// maxExported is how much of each log an export includes, in bytes, counted from
// the log's end.
const maxExported = 16 << 20

// export writes an archive for a bug report. What it cannot get it lists in
// missing.txt, and it still includes everything else.
func (cmd logsCommand) export(ctx context.Context, m *localcluster.Cluster, file string) (err error) {
	exists := fmt.Errorf("%s exists already: give another name, or delete it", file)
	if _, err := os.Lstat(file); err == nil {
		return exists
	}
	f, err := atomicfile.Create(file)
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	defer func() { err = errors.Join(err, f.Discard()) }()
	zip := gzip.NewWriter(f)
	e := &exporter{tar: tar.NewWriter(zip), now: time.Now()}
	e.clusterState(ctx, m)
	for _, l := range m.Logs() {
		e.log(l)
	}
	e.text("missing.txt", []byte(strings.Join(e.missing, "\n")+"\n"))
	if err := errors.Join(e.failed, e.tar.Close(), zip.Close()); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	if err := f.CommitNew(); errors.Is(err, fs.ErrExist) {
		return exists // it was made meanwhile
	} else if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	fmt.Fprintf(cmd.Out, "%s has %d logs and the cluster's state, without keys, tokens and pod specifications.\nLook through it before you give it away: programs may log what they like.\n", file, e.logs)
	return nil
}

// exporter writes the members of an export.
type exporter struct {
	tar     *tar.Writer
	now     time.Time
	logs    int
	missing []string // what could not be read, and why
	failed  error    // why the archive itself could not be written
}

// text adds a member, without what looks like a secret.
func (e *exporter) text(name string, data []byte) {
	if e.failed != nil {
		return
	}
	data = redact(data)
	head := &tar.Header{Name: path.Join("everynode-logs", name), Mode: 0o600, Size: int64(len(data)), ModTime: e.now}
	if e.failed = e.tar.WriteHeader(head); e.failed == nil {
		_, e.failed = e.tar.Write(data)
	}
}

// try adds what get returns as JSON, or notes that get failed.
func (e *exporter) try(name string, get func() (any, error)) {
	value, err := get()
	var data []byte
	if err == nil {
		data, err = json.MarshalIndent(value, "", "  ")
	}
	if err != nil {
		e.missing = append(e.missing, fmt.Sprintf("%s: %v", name, err))
		return
	}
	e.text(name, append(data, '\n'))
}

// log adds the ends of a log and of the older one that was set aside.
func (e *exporter) log(l localcluster.LogFile) {
	e.logFile(localcluster.LogFile{Of: l.Of + ".1", Path: l.Path + ".1"})
	e.logFile(l)
}

func (e *exporter) logFile(l localcluster.LogFile) {
	data, err := readEnd(l.Path, maxExported)
	if errors.Is(err, fs.ErrNotExist) {
		return // a cluster without simulated nodes has no simulator
	}
	if err != nil {
		e.missing = append(e.missing, fmt.Sprintf("the log of %s: %v", l.Of, err))
		return
	}
	e.logs++
	e.text("logs/"+strings.ReplaceAll(l.Of, " ", "-")+".log", data)
}

// readEnd reads the end of a file, at most limit bytes.
func readEnd(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-limit, 0)
	return io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
}

// clusterState adds versions, processes, and what the API server knows of nodes,
// pods and DaemonSets.
func (e *exporter) clusterState(ctx context.Context, m *localcluster.Cluster) {
	e.try("version.json", func() (any, error) {
		return map[string]string{"everynode": console.Version, "kubernetes": componentversion.Get().GitVersion, "go": runtime.Version(), "arch": runtime.GOARCH}, nil
	})
	e.try("status.json", func() (any, error) { return statusOf(ctx, m), nil })
	e.try("record.json", func() (any, error) { return m.Cluster, nil })
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := localcluster.FleetClient(m.DataDir)
	if err != nil {
		e.missing = append(e.missing, fmt.Sprintf("nodes, pods, DaemonSets and events: %v", err))
		return
	}
	e.objects(ctx, client)
}

// objects adds what a report needs of the API's objects. Pod specifications may
// have secrets in their environment variables, and annotations whole copies of a
// specification: only the names and status of pods and DaemonSets are included.
func (e *exporter) objects(ctx context.Context, client kubernetes.Interface) {
	type object struct {
		Name       string            `json:"name"`
		Namespace  string            `json:"namespace,omitempty"`
		UID        string            `json:"uid"`
		Generation int64             `json:"generation,omitempty"`
		Created    time.Time         `json:"created"`
		Deleted    *metav1.Time      `json:"deleted,omitempty"`
		Labels     map[string]string `json:"labels,omitempty"`
		Node       string            `json:"node,omitempty"`
		Taints     any               `json:"taints,omitempty"`
		Status     any               `json:"status"`
	}
	head := func(o *metav1.ObjectMeta, status any) object {
		return object{Name: o.Name, Namespace: o.Namespace, UID: string(o.UID), Generation: o.Generation, Created: o.CreationTimestamp.Time,
			Deleted: o.DeletionTimestamp, Labels: o.Labels, Status: status}
	}
	e.try("nodes.json", func() (any, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var all []object
		for i := range list.Items {
			o := head(&list.Items[i].ObjectMeta, list.Items[i].Status)
			o.Taints = list.Items[i].Spec.Taints
			all = append(all, o)
		}
		return all, nil
	})
	e.try("pods.json", func() (any, error) {
		list, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var all []object
		for i := range list.Items {
			o := head(&list.Items[i].ObjectMeta, list.Items[i].Status)
			o.Node = list.Items[i].Spec.NodeName
			all = append(all, o)
		}
		return all, nil
	})
	e.try("daemonsets.json", func() (any, error) {
		list, err := client.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var all []object
		for i := range list.Items {
			all = append(all, head(&list.Items[i].ObjectMeta, list.Items[i].Status))
		}
		return all, nil
	})
	e.events(ctx, client)
}

// events adds the cluster's Events, one per line.
func (e *exporter) events(ctx context.Context, client kubernetes.Interface) {
	list, err := client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		e.missing = append(e.missing, fmt.Sprintf("events.txt: %v", err))
		return
	}
	var b bytes.Buffer
	for i := range list.Items {
		v := &list.Items[i]
		fmt.Fprintf(&b, "%s %s %s %s/%s %s: %s\n", v.LastTimestamp.UTC().Format(time.RFC3339), v.Type, v.InvolvedObject.Kind, v.InvolvedObject.Namespace, v.InvolvedObject.Name, v.Reason,
			strings.Join(strings.Fields(v.Message), " "))
	}
	e.text("events.txt", b.Bytes())
}

// redact removes what looks like a key or a token. Our own programs log none; this
// is for what others may log.
func redact(data []byte) []byte {
	for _, secret := range []string{
		`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`,
		`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`, // JSON web tokens
		`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`,                             // join tokens
	} {
		data = regexp.MustCompile(secret).ReplaceAll(data, []byte("REDACTED"))
	}
	return regexp.MustCompile(`(?i)\b(bearer|basic) [A-Za-z0-9+/=._~-]{8,}`).ReplaceAll(data, []byte("$1 REDACTED"))
}
