package localcluster

import (
	"io/fs"
	"strings"
	"testing"
)

// Root's cluster is the machine's. An ordinary user's is among the user's own
// data.
func TestDefaultDataDir(t *testing.T) {
	for _, c := range []struct {
		uid  int
		env  map[string]string
		want string
	}{
		{0, map[string]string{"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/var/lib/everynode"},
		{1000, map[string]string{"HOME": "/h"}, "/h/.local/share/everynode"},
		{1000, map[string]string{"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/x/everynode"},
		{1000, map[string]string{"HOME": "/h", "XDG_DATA_HOME": "relative"}, "/h/.local/share/everynode"},
		{1000, nil, "/var/lib/everynode"},
	} {
		if got := defaultDataDir(c.uid, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("uid %d, %v: %s, want %s", c.uid, c.env, got, c.want)
		}
	}
}

// An error about a file that cannot be read names the file's owner.
func TestUnreadable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Path: "/", Err: fs.ErrPermission}, "/ belongs to root, and so does the cluster in it: run this as that user (sudo), or name a folder of your own with --data-dir"},
		{&fs.PathError{Op: "open", Path: "/", Err: fs.ErrNotExist}, "no cluster in /: start one with `everynode up`"},
	} {
		if got := Unreadable("/", c.err).Error(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}
