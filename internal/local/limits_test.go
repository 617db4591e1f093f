package local

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// The tests use a setting of the network as a limit, because each test can have its own.
const ttl = "net/ipv4/ip_default_ttl"

func TestRaiseLimits(t *testing.T) {
	limits := []sharedLimit{{name: ttl, perNode: 10}, {name: "fs/inotify/not_in_this_kernel", perNode: 10}}
	set := func(value string) func(*hostRecord) error {
		return func(*hostRecord) error { return sysctl.Write(ttl, value) }
	}
	raise := func(nodes int) func(*hostRecord) error {
		return func(r *hostRecord) error { return r.raise(limits, nodes) }
	}
	restore := (*hostRecord).restoreLimits
	type step struct {
		what string
		do   func(*hostRecord) error
		want int
	}
	for name, steps := range map[string][]step{
		"nodes come and all go": {
			{"two nodes, and the machine", raise(2), 30},
			{"one more", raise(3), 40},
			{"the same again", raise(3), 40},
			{"fewer: the last cluster lowers it", raise(1), 40},
			{"the last one goes", restore, 7},
			{"again", restore, 7},
		},
		"a limit that is high enough is left alone": {
			{"somebody's", set("200"), 200},
			{"two nodes", raise(2), 200},
			{"the last one goes", restore, 200},
		},
		"what somebody sets in between stays": {
			{"two nodes", raise(2), 30},
			{"somebody's", set("99"), 99},
			{"the last one goes", restore, 99},
		},
		"what somebody sets in between comes back": {
			{"two nodes", raise(2), 30},
			{"somebody's", set("35"), 35},
			{"three nodes", raise(3), 40},
			{"the last one goes", restore, 35},
		},
		"a crash between record and change": {
			{"two nodes", raise(2), 30},
			{"three nodes, not done", func(r *hostRecord) error { r.noteRaise(ttl, 30, 40); return nil }, 30},
			{"the last one goes", restore, 7},
		},
		"a crash before the first change": {
			{"two nodes, not done", func(r *hostRecord) error { r.noteRaise(ttl, 7, 30); return nil }, 7},
			{"the last one goes", restore, 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inPrivateNet(t, func() error {
				if err := sysctl.Write(ttl, "7"); err != nil {
					return err
				}
				dir := t.TempDir()
				for _, s := range steps {
					r, err := readHostRecord(dir) // each time as another process does
					if err != nil {
						return err
					}
					if err := s.do(r); err != nil {
						return err
					}
					if err := r.write(); err != nil {
						return err
					}
					if got, err := sysctl.Read(ttl); err != nil || got != strconv.Itoa(s.want) {
						t.Errorf("%s: the limit is %s, %v; want %d", s.what, got, err, s.want)
					}
				}
				return nil
			})
		})
	}
}

// The limit is on record before it changes: a process that is killed in between leaves no change that is not
// recorded.
func TestRaiseIsOnRecordFirst(t *testing.T) {
	inPrivateNet(t, func() error {
		if err := sysctl.Write(ttl, "7"); err != nil {
			return err
		}
		r, err := readHostRecord(t.TempDir())
		if err != nil {
			return err
		}
		r.dir = "/proc/self" // takes no files
		if err := r.raise([]sharedLimit{{name: ttl, perNode: 10}}, 2); err == nil {
			t.Error("raised without a record")
		}
		if got, err := sysctl.Read(ttl); err != nil || got != "7" {
			t.Errorf("the limit is %s, %v; want it unchanged", got, err)
		}
		return nil
	})
}

func TestLimitWarnings(t *testing.T) {
	inPrivateNet(t, func() error {
		if err := sysctl.Write(ttl, "29"); err != nil {
			return err
		}
		limit := sharedLimit{name: ttl, perNode: 10, runsOut: "all is lost"}
		for nodes, want := range map[int]int{1: 0, 2: 1} {
			got, err := limitWarnings([]sharedLimit{limit}, nodes)
			if err != nil {
				return err
			}
			about := 0
			for _, w := range got {
				if strings.Contains(w, "all is lost") && strings.Contains(w, "echo 30 > /proc/sys/"+ttl) {
					about++
				}
			}
			if about != want {
				t.Errorf("%d nodes: %q; want %d about the limit", nodes, got, want)
			}
		}
		return nil
	})
}

// After a node is made, the limits are raised for all clusters of the machine together.
func TestNodesShareLimits(t *testing.T) {
	c := upCluster(t)
	for _, l := range sharedLimits() {
		if now, err := readLimit(l.name); err != nil || now < l.enough(len(c.Nodes)) {
			t.Errorf("%s is %d, %v; want %d for %d nodes", l.name, now, err, l.enough(len(c.Nodes)), len(c.Nodes))
		}
	}
}

func TestFilesWarning(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	held, err := capabilities()
	if err != nil {
		t.Fatal(err)
	}
	warning, err := filesWarning()
	if want := files.Max < wantedFiles && !held(unix.CAP_SYS_RESOURCE); err != nil || (warning != "") != want {
		t.Errorf("a warning %q, %v; with %d files it should be there: %v", warning, err, files.Max, want)
	}
}
