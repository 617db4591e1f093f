package upstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"

	"everynode/internal/atomicfile"
)

// maxFormer is how many servers are remembered that the cluster no longer lists.
const maxFormer = 16

// serverList is what the agent knows of the cluster's API servers, each as
// host:port.
type serverList struct {
	given  []string // on the command line
	listed []string // by the cluster, when it was last asked
	former []string // what it listed before, the latest first
}

// order returns the servers in the order in which the node called name tries them.
// The node uses the first one when all of them work. The order differs from node to
// node, so that nodes spread over the servers, and a new server draws only few
// nodes away from the others.
func (l serverList) order(name string) []string {
	weight := func(server string) []byte {
		sum := sha256.Sum256([]byte(name + " " + server))
		return sum[:]
	}
	now := slices.Concat(l.given, l.listed)
	slices.SortFunc(now, func(a, b string) int { return bytes.Compare(weight(a), weight(b)) })
	now = slices.Compact(now)
	for _, server := range l.former {
		if !slices.Contains(now, server) {
			now = append(now, server)
		}
	}
	return now
}

// with returns the list after the cluster has listed other servers. It keeps former
// ones for long, because all that are listed now may be gone one day.
func (l serverList) with(listed []string) serverList {
	var former []string
	for _, server := range slices.Concat(l.listed, l.former) {
		if !slices.Contains(listed, server) && !slices.Contains(former, server) && len(former) < maxFormer {
			former = append(former, server)
		}
	}
	return serverList{given: l.given, listed: listed, former: former}
}

// Remembered is what an agent keeps in a file for its next run: the servers that it
// knows, and the port at which its programs reach them.
type Remembered struct {
	Port    int      `json:"port"`
	Servers []string `json:"servers,omitempty"`
}

// Recall reads what an earlier run of the agent has remembered in file. An
// unreadable file counts as none: the servers on the command line are enough.
func Recall(file string, log *slog.Logger) Remembered {
	var r Remembered
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("cannot read the saved list of API servers; continuing without it", "file", file, "err", err)
		return Remembered{}
	}
	return r
}

func (r Remembered) write(file string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the list of API servers: %w", err)
	}
	if err := atomicfile.Write(file, append(data, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// Parse reads the URLs of API servers and returns them as host:port,
// without repeats.
func Parse(servers []string) ([]string, error) {
	if len(servers) == 0 {
		return nil, errors.New("no API server is set: give its address with --server https://HOST:6443")
	}
	var hosts []string
	for _, server := range servers {
		u, err := parseServer(server)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts, nil
}

// parseServer reads the URL of an API server. Port 6443 is the default.
func parseServer(server string) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("API server address %q is not of the form https://HOST:PORT: correct --server", server)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "6443")
	}
	return u, nil
}
