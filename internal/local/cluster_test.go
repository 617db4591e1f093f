package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"everynode/internal/datadir"
)

func TestChooseRanges(t *testing.T) {
	used := func(prefixes ...string) []usedRange {
		var list []usedRange
		for _, p := range prefixes {
			list = append(list, usedRange{netip.MustParsePrefix(p), "route " + p + " of eth9"})
		}
		return list
	}
	tests := []struct {
		name    string
		opts    Options
		taken   []usedRange
		want    [3]string // subnet, pods, services
		wantErr string
	}{
		{name: "an empty machine", want: [3]string{"10.0.0.0/24", "10.42.0.0/16", "10.96.0.0/16"}},
		{name: "the first subnet is taken", taken: used("10.0.0.0/24"), want: [3]string{"10.1.0.0/24", "10.42.0.0/16", "10.96.0.0/16"}},
		{name: "one address in it is enough", taken: used("10.0.0.7/32"), want: [3]string{"10.1.0.0/24", "10.42.0.0/16", "10.96.0.0/16"}},
		{name: "a wider route counts", taken: used("10.0.0.0/14"), want: [3]string{"10.4.0.0/24", "10.42.0.0/16", "10.96.0.0/16"}},
		{name: "pods and services move, too", taken: used("10.42.3.0/24", "10.96.0.0/15"), want: [3]string{"10.0.0.0/24", "10.43.0.0/16", "10.98.0.0/16"}},
		{name: "all of 10.0.0.0/8 is a company's", taken: used("10.0.0.0/8"), want: [3]string{"192.168.100.0/24", "172.24.0.0/16", "172.28.0.0/16"}},
		{name: "the node range avoids a given pod range", opts: Options{PodCIDR: netip.MustParsePrefix("10.0.0.0/15")},
			want: [3]string{"10.2.0.0/24", "10.0.0.0/15", "10.96.0.0/16"}},
		{name: "a given range in use", opts: Options{PodCIDR: netip.MustParsePrefix("10.50.0.0/16")}, taken: used("10.50.1.0/24"), wantErr: "in use on this machine by route 10.50.1.0/24 of eth9"},
		{name: "given ranges overlap", opts: Options{PodCIDR: netip.MustParsePrefix("10.50.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.50.128.0/17")}, wantErr: "the cluster's pod range"},
		{name: "a given range is not a network", opts: Options{ServiceCIDR: netip.MustParsePrefix("10.96.0.1/16")}, wantErr: "give an IPv4 network"},
		{name: "nothing is free", taken: used("0.0.0.0/1", "128.0.0.0/1"), wantErr: "no free node range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c Cluster
			err := c.chooseRanges(tt.opts, tt.taken)
			checkError(t, err, tt.wantErr)
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, [3]string{c.Subnet.String(), c.PodCIDR.String(), c.ServiceCIDR.String()}); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
			if c.Gateway != c.Subnet.Addr().Next() {
				t.Errorf("gateway is %v in %v", c.Gateway, c.Subnet)
			}
		})
	}
}

func TestChosenRangesNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var taken []usedRange
		for range rapid.IntRange(0, 20).Draw(t, "routes") {
			a := [4]byte{10, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c"), 0}
			p := netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(9, 32).Draw(t, "bits")).Masked()
			taken = append(taken, usedRange{p, "test"})
		}
		var c Cluster
		if err := c.chooseRanges(Options{}, taken); err != nil {
			t.Fatalf("no ranges, although 192.168 and 172 are free: %v", err)
		}
		if c.Subnet.Overlaps(c.PodCIDR) || c.Subnet.Overlaps(c.ServiceCIDR) || c.PodCIDR.Overlaps(c.ServiceCIDR) {
			t.Fatalf("ranges overlap: %v %v %v", c.Subnet, c.PodCIDR, c.ServiceCIDR)
		}
		for _, p := range []netip.Prefix{c.Subnet, c.PodCIDR, c.ServiceCIDR} {
			if u, hit := overlap(p, taken); hit {
				t.Fatalf("%v overlaps %v", p, u.prefix)
			}
		}
	})
}

func TestNodes(t *testing.T) {
	c := &Cluster{Subnet: netip.MustParsePrefix("10.3.0.0/24")}
	add := func(name string, index int, address string) {
		t.Helper()
		n, err := c.AddNode(name, Size{})
		if err != nil {
			t.Fatal(err)
		}
		if want := (Node{Name: name, Index: index, Address: netip.MustParseAddr(address)}); n != want {
			t.Errorf("AddNode(%q) = %v, want %v", name, n, want)
		}
	}
	add("node-1", 1, "10.3.0.101")
	add("node-3", 3, "10.3.0.103")
	add("edge", 2, "10.3.0.102")
	add("node-2", 4, "10.3.0.104") // its own index is taken
	add("node-100", 100, "10.3.0.200")
	add("node-101", 5, "10.3.0.105") // no such index

	for name, want := range map[string]string{
		"": "node name", "Node": "lower case", "a.b": "node name", "a_b": "node name", "-a": "node name",
		strings.Repeat("a", 64): "63", "../x": "node name", "edge": "exists already", "a-system": "kept for",
	} {
		_, err := c.AddNode(name, Size{})
		checkError(t, err, want)
	}
	_, err := c.Node("nod-1")
	checkError(t, err, "the nodes are node-1, edge, node-3, node-2, node-101, node-100")
	if err := c.ForgetNode("edge"); err != nil {
		t.Error(err)
	}
	checkError(t, c.ForgetNode("edge"), "no node")
	checkError(t, c.SetStopped("edge", true), "no node")
	if err := c.SetStopped("node-3", true); err != nil {
		t.Error(err)
	}
	if n, err := c.Node("node-3"); err != nil || !n.Stopped {
		t.Errorf("Node(node-3) = %v, %v; want it stopped", n, err)
	}
	for len(c.Nodes) < MaxNodes {
		if _, err := c.AddNode(fmt.Sprintf("n%d", len(c.Nodes)), Size{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.AddNode("one-more", Size{})
	checkError(t, err, "at most 100 nodes")
	_, err = new(Cluster).Node("x")
	checkError(t, err, "everynode node add x")
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Open(dir); !errors.Is(err, ErrNoCluster) {
		t.Errorf("Open of nothing: %v, want ErrNoCluster", err)
	}
	c, err := Create(dir, Options{APIPort: 7443})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddNode("node-1", Size{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the record changed on its way (-saved +read):\n%s", diff)
	}
	file := filepath.Join(dir, stateFile)
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of %s is %v, %v; want 0600", file, st.Mode(), err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 2 || names[0] != file || filepath.Base(names[1]) != datadir.MarkName {
		t.Errorf("the data directory holds %v, %v; want the record and the mark only", names, err)
	}
	_, err = Create(dir, Options{})
	checkError(t, err, "has a cluster already")

	link := filepath.Join(filepath.Dir(dir), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if got, err := Open(link); err != nil || got.ID != c.ID {
		t.Errorf("Open through a symbolic link: %v, %v; want the same cluster", got, err)
	}
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	_, err = Open(moved)
	checkError(t, err, "move the data directory back")
}

// A cluster is made in the directory of a restored server, and never in that of one that has run or starts.
func TestCreateInServers(t *testing.T) {
	server := func(t *testing.T, restored bool) *datadir.Dir {
		d, err := datadir.Claim(filepath.Join(t.TempDir(), "data"), datadir.Server)
		if err == nil && restored {
			err = d.SetRestored()
		}
		if err == nil {
			err = d.SetStore(datadir.StoreMade)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	check := func(dir string, kind datadir.Kind, record bool) {
		t.Helper()
		if d, err := datadir.Find(dir); err != nil || d.Kind() != kind {
			t.Errorf("%v; the directory is of kind %q, want %q", err, d.Kind(), kind)
		}
		if _, err := os.Lstat(filepath.Join(dir, stateFile)); (err == nil) != record {
			t.Errorf("the record: %v", err)
		}
	}

	used := server(t, false).Path
	_, err := PreflightLoopback(used)
	checkError(t, err, "is the data directory of an everynode server")
	_, err = Create(used, Options{Loopback: true})
	checkError(t, err, "is the data directory of an everynode server")
	check(used, datadir.Server, false)

	restored := server(t, true).Path
	_, err = PreflightLoopback(restored)
	checkError(t, err, "")
	check(restored, datadir.Server, false)
	release, err := datadir.Lock(filepath.Join(restored, "server.lock"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Create(restored, Options{Loopback: true})
	checkError(t, errors.Join(err, release()), "is already running")
	check(restored, datadir.Server, false)
	_, err = Create(restored, Options{Loopback: true})
	checkError(t, err, "")
	check(restored, datadir.Up, true)
}

func TestDecode(t *testing.T) {
	const good = `{"version":1,"id":"0a1b2c","subnet":"10.0.0.0/24","gateway":"10.0.0.1","podCIDR":"10.42.0.0/16",
		"serviceCIDR":"10.96.0.0/16","apiPort":6443,"nodes":[{"name":"node-1","index":1,"address":"10.0.0.101"}]}`
	tests := []struct{ name, old, new, wantErr string }{
		{name: "good"},
		{"a newer format", `"version":1`, `"version":2,"shape":[]`, "written by a newer everynode (format 2, this program knows up to 1)"},
		{"a newer format with other types", `"nodes":[`, `"version":7,"nodes":[1,`, "written by a newer everynode"},
		{"no version", `"version":1`, `"version":0`, "version is 0"},
		{"cut off", `"apiPort":6443`, ``, "broken JSON"},
		{"not JSON", good, "hello", "broken JSON"},
		{"empty", good, "", "broken JSON"},
		{"a path as id", `0a1b2c`, `../../`, "six hex digits"},
		{"no subnet", `"subnet":"10.0.0.0/24",`, ``, "subnet is missing"},
		{"no range", `10.42.0.0/16`, `10.42`, "broken content"},
		{"foreign gateway", `10.0.0.1"`, `10.0.1.1"`, "gateway"},
		{"port", `6443`, `70000`, "apiPort is 70000"},
		{"node name", `node-1`, `../etc`, "node name"},
		{"node address", `10.0.0.101`, `10.0.0.102`, "address"},
		{"node twice", `"nodes":[`, `"nodes":[{"name":"node-1","index":2,"address":"10.0.0.102"},`, "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.new, 1)
			if tt.old == "" {
				text = good
			}
			_, err := decode([]byte(text))
			checkError(t, err, tt.wantErr)
			if err != nil && strings.Contains(tt.wantErr, "broken") && !strings.Contains(err.Error(), "restore it") {
				t.Errorf("the error does not say what to do: %v", err)
			}
		})
	}
}

// A cluster that was made without DNS, when DNS was the only add-on, stays without.
func TestDecodeNoDNS(t *testing.T) {
	const record = `{"version":1,"id":"0a1b2c","subnet":"10.0.0.0/24","gateway":"10.0.0.1","podCIDR":"10.42.0.0/16",
		"serviceCIDR":"10.96.0.0/16","apiPort":6443,"nodes":[]%s}`
	for more, want := range map[string]map[string]bool{
		``:                                    nil,
		`,"noDNS":true`:                       {"dns": false},
		`,"noDNS":true,"addons":{"dns":true}`: {"dns": true},
	} {
		c, err := decode(fmt.Appendf(nil, record, more))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.Addons); diff != "" {
			t.Errorf("%s (-want +got):\n%s", more, diff)
		}
	}
}

func TestMemberOf(t *testing.T) {
	const membership = "9:pids:/everynode-0a1b2c/node-10/kubepods\n4:memory:/user:slice/x\n0::/\n"
	for path, want := range map[string]bool{
		"/everynode-0a1b2c/node-10": true, "/everynode-0a1b2c/node-10/kubepods": true, "/everynode-0a1b2c": true, "/user:slice": true,
		"/everynode-0a1b2c/node-1": false, "/everynode-0a1b2c/node-10-system": false, "/node-10": false,
	} {
		if got := memberOf(membership, path); got != want {
			t.Errorf("memberOf(%q) = %v, want %v", path, got, want)
		}
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error is %v, want one with %q", err, want)
	}
}

func TestStubUpstream(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	write(stubFile, "# x\nnameserver 127.0.0.53\noptions edns0\n")
	if err := os.Symlink(filepath.Join(dir, stubFile), link); err != nil {
		t.Fatal(err)
	}
	check := func(what, path, want string) {
		t.Helper()
		if got, err := stubUpstream(path, dir); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
	check("no upstream file", link, "")
	write(upstreamFile, "nameserver 192.0.2.53\n")
	check("systemd-resolved", link, "nameserver 192.0.2.53\n")
	check("no file", link+"x", "")
	write(stubFile, "nameserver 127.0.0.53\nnameserver 192.0.2.54\n")
	check("a server that nodes reach", link, "")
	write(stubFile, "search example.com\n")
	check("no server", link, "")
	plain := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(plain, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("another loopback server", plain, "")
}

func TestCheckRanges(t *testing.T) {
	c := &Cluster{Subnet: netip.MustParsePrefix("10.0.0.0/24"), PodCIDR: netip.MustParsePrefix("10.42.0.0/16")}
	for taken, want := range map[string]string{
		"10.0.0.0/8": "", "10.1.0.0/24": "", "10.0.0.0/24": "node range 10.0.0.0/24", "10.0.0.9/32": "node range", "10.42.7.0/24": "pod range",
	} {
		checkError(t, c.Host().checkRanges([]usedRange{{netip.MustParsePrefix(taken), "test"}}), want)
	}
}
