package node

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// printChildsLimit does what an agent does about the limit, and has a child print its own.
func printChildsLimit() error {
	files, err := raiseFileLimit()
	if err != nil {
		return err
	}
	child, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
	fmt.Printf("%d %s", files, child)
	return err
}

// What counts is what a child gets: containerd, and through it each container.
func TestFileLimitOfChildren(t *testing.T) {
	for _, shell := range []string{
		"ulimit -Sn 256", // as in a login shell
		"ulimit -n 512",  // without CAP_SYS_RESOURCE, root cannot raise this one
	} {
		cmd := exec.Command("sh", "-c", shell+` && ulimit -Hn && exec "$0"`, os.Args[0])
		cmd.Env = append(os.Environ(), "EVERYNODE_TEST_ROLE=limits")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", shell, err)
		}
		fields := strings.Fields(string(out))
		if len(fields) != 3 {
			t.Fatalf("%s: it printed %q", shell, out)
		}
		hard, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			hard = enoughFiles // unlimited
		}
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		want := min(hard, enoughFiles)
		if hasCapability(string(status), unix.CAP_SYS_RESOURCE) {
			want = max(want, wantedFiles)
		}
		if fields[1] != fields[2] || fields[2] != fmt.Sprint(want) {
			t.Errorf("%s: the agent says %s, its child has %s; want %d", shell, fields[1], fields[2], want)
		}
	}
}
